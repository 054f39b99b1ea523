"""Filters on the items that may be returned: conditions on columns of the catalogue, and sets of items.

Filters are hashable values: requests with equal filters share the arrays made from them (`genrec.decoding.live_index`).
"""

import dataclasses
import datetime
import decimal
import itertools
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data import attributes, timestamps
from genrec.data.cells import SEPARATOR
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.errors import shown

OPERATORS = ("!=", "!~", ">=", "<=", "=", "~")  # the longer ones first


@dataclasses.dataclass(frozen=True)
class Condition:
    """Condition on a column of the catalogue. Items whose cell is empty fulfil only `!=` and `!~`.

    =   equals one of the values: as numbers, booleans or dates where the column has these, else as text
    !=  equals none of the values
    ~   contains one of the values, where the cell is a list, or values separated by "|", such as countries "DE|FR";
        as = where the column has numbers, booleans or dates
    !~  contains none of the values
    >=, <=  compares with a number, or with a time: ISO 8601, a month (2024-01), a year (2024), or Unix seconds
    """

    column: str
    operator: str
    values: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> "Condition":
        """Parses "media_type=music", "countries~DE,all" or "release_time>=2024-01-31"; raises DataError for others."""
        found = re.fullmatch(rf"([^!<>=~]++)({'|'.join(OPERATORS)})(.*)", text)  # possessive: in linear time
        if found is None or not found[1].strip():
            raise DataError(
                f"cannot parse the filter {text!r}. Write COLUMN, one of {', '.join(OPERATORS)}, and one or several "
                "values separated by commas: media_type=music,podcast"
            )
        column, operator, values = found.groups()
        return Condition(column.strip(), operator, tuple(value.strip() for value in values.split(",")))

    def mask(self, catalogue: Catalogue) -> np.ndarray:
        """Returns bool[items], True where the condition holds.

        Raises DataError if the column cannot be compared so, and for = and != where values stand among others only.
        """
        column = catalogue.column(self.column)
        lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        if pa.types.is_nested(column.type) and not lists:
            raise DataError(f"filter on {self.column!r}: its cells are {column.type}. Use a column of text or lists.")
        if lists and self.operator not in ("~", "!~"):
            raise DataError(f"filter on {self.column!r}: its cells are lists. Use ~ or !~ to test what they contain.")
        if self.operator in (">=", "<="):
            if len(self.values) > 1:
                raise DataError(f"filter on {self.column!r}: {self.operator} takes one value, not {len(self.values)}.")
            return self._compare(column, self.operator, self.values[0])
        is_text = lists or not (_is_comparable(column) or pa.types.is_boolean(column.type))
        fulfilled = _has(column, self.values) if "~" in self.operator and is_text else self._equal(column)
        return ~fulfilled if self.operator.startswith("!") else fulfilled

    def _equal(self, column: pa.Array) -> np.ndarray:
        if pa.types.is_boolean(column.type):
            wanted = pa.array([self._boolean(value) for value in self.values])
            return pc.is_in(column, wanted).fill_null(False).to_numpy(zero_copy_only=False)
        if _is_comparable(column):
            masks = [self._compare(column, ">=", value) & self._compare(column, "<=", value) for value in self.values]
            return np.logical_or.reduce(masks)
        equal = pc.is_in(column.cast(pa.string()), pa.array(self.values, pa.string()))
        fulfilled = equal.fill_null(False).to_numpy(zero_copy_only=False)
        if not fulfilled.any() and (among := int(_has(column, self.values).sum())):
            raise DataError(
                f"filter on {self.column!r}: no cell is {' or '.join(map(shown, self.values))}, but {among:,} have it "
                "among other values. Use ~ or !~ to test what they contain."
            )
        return fulfilled

    def _compare(self, column: pa.Array, operator: str, value: str) -> np.ndarray:
        """Returns bool[items], True where a cell is at least, or at most, a number or a time."""
        if _is_text(column.type):
            column, _ = attributes.infer(attributes.without_blanks(column))
        if _is_number(column.type):
            return _compare_numbers(column, operator, self._number(value))
        period = _period(value)
        if period is None:
            raise DataError(
                f"filter on {self.column!r}: {value!r} is neither a number nor a time such as 2024-01-31 or 2024."
            )
        times, known = self._times(column)
        return known & (times >= period[0] if operator == ">=" else times < period[1])

    def _times(self, column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Returns int64[items], microseconds since 1970, and bool[items], True where a cell is not empty.

        Raises DataError if a cell is neither a time nor a number.
        """
        times, known = timestamps.parse(column)
        other = np.flatnonzero(~known & column.is_valid().to_numpy(zero_copy_only=False))
        if len(other):
            raise DataError(
                f"filter on {self.column!r}: {len(other):,} of its cells are neither numbers nor times, such as "
                f"{shown(column[int(other[0])].as_py())}. Correct them in the items, or use = or ~."
            )
        return times, known

    def _number(self, value: str) -> decimal.Decimal:
        """Returns the number that `value` is, or the Unix seconds of the time."""
        try:
            number = decimal.Decimal(value)
        except decimal.InvalidOperation:
            (time,), (readable,) = timestamps.parse(pa.array([value]))
            number = decimal.Decimal(int(time)) / timestamps.SECOND if readable else decimal.Decimal("nan")
        if not number.is_finite():
            raise DataError(f"filter on {self.column!r}: {value!r} is neither a number nor a time such as 2024-01-31.")
        return number

    def _boolean(self, value: str) -> bool:
        if value.lower() not in ("true", "false"):
            raise DataError(f"filter on {self.column!r}: its cells are true or false, and {value!r} is neither.")
        return value.lower() == "true"


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_comparable(column: pa.Array) -> bool:
    """Returns whether the cells of a column are numbers or times, and not text that may be either."""
    kind = column.type
    return _is_number(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def _compare_numbers(column: pa.Array, operator: str, number: decimal.Decimal) -> np.ndarray:
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_integer(column.type):  # exact beyond 2 ** 53, too
        cells, most = column.fill_null(0).to_numpy(), decimal.Decimal(2**70)
        number = max(-most, min(most, number))  # 1e999999 would be an integer of a million digits
        return known & (cells >= math.ceil(number) if operator == ">=" else cells <= math.floor(number))
    cells = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore"):  # comparisons with NaN
        return known & (cells >= float(number) if operator == ">=" else cells <= float(number))


def _period(value: str) -> Sequence[int] | None:
    """Returns the microseconds since 1970 at which a time begins and ends: a year, a month, a day, or an instant."""
    if re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", value):
        parts = [int(part) for part in value.split("-")]
        year, month, day = (*parts, 1, 1)[:3]
        try:
            start = datetime.date(year, month, day)
            if len(parts) == 3:
                end = start + datetime.timedelta(days=1)
            else:
                end = datetime.date(
                    year + (len(parts) == 1 or month == 12), month % 12 + 1 if len(parts) == 2 else 1, 1
                )
        except (ValueError, OverflowError):
            return None
        epoch = datetime.date(1970, 1, 1).toordinal()
        return [(date.toordinal() - epoch) * 24 * timestamps.HOUR for date in (start, end)]
    (time,), (readable,) = timestamps.parse(pa.array([value]))
    return [int(time), int(time) + 1] if readable else None


def _has(column: pa.Array, values: tuple[str, ...]) -> np.ndarray:
    """Returns bool[rows], True where a cell, a list or text with separators, contains one of the values."""
    if pa.types.is_nested(column.type):
        rows, cells = pc.list_parent_indices(column), pc.list_flatten(column)
        values = tuple(_as_written(value, cells.type) for value in values)
        cells = cells.cast(pa.string())
    else:
        cells = pc.split_pattern(column.cast(pa.string()), SEPARATOR)
        rows, cells = pc.list_parent_indices(cells), pc.utf8_trim_whitespace(pc.list_flatten(cells))
    fulfilled = np.zeros(len(column), bool)
    fulfilled[rows.filter(pc.is_in(cells, pa.array(values, pa.string()))).to_numpy()] = True
    return fulfilled


def _as_written(value: str, kind: pa.DataType) -> str:
    """Returns a value in the way that cells of lists are written as text: 2.0 as 2 among numbers, True as true."""
    if pa.types.is_boolean(kind):
        return value.lower()
    try:
        number = decimal.Decimal(value) if _is_number(kind) else decimal.Decimal("nan")
    except decimal.InvalidOperation:
        return value
    if not number.is_finite() or abs(number) > 2**70:
        return value
    if pa.types.is_integer(kind):
        return f"{number:.0f}" if number == number.to_integral_value() else value
    return pa.scalar(float(number)).cast(kind).cast(pa.string()).as_py()


@dataclasses.dataclass(frozen=True)
class Filter:
    """Conjunction of conditions, an allow list, a deny list, and conjunctions of which no item may fulfill all."""

    conditions: tuple[Condition, ...] = ()
    allow: frozenset[int] | None = None  # rows of the catalogue; None allows all
    deny: frozenset[int] = frozenset()  # rows of the catalogue
    deny_where: tuple[tuple[Condition, ...], ...] = ()  # items that fulfill all conditions of one of these are refused

    @staticmethod
    def parse(texts: Sequence[str]) -> "Filter":
        """Returns the filter with the conditions that `Condition.parse` reads."""
        return Filter(tuple(map(Condition.parse, texts)))

    def mask(self, items: int, catalogue: Catalogue | None) -> np.ndarray:
        """Returns bool[items], True for items that pass.

        Items beyond the catalogue fulfil no condition, and do not pass where any are refused by conditions.
        """
        passing = np.ones(items, bool)
        for condition in (*self.conditions, *itertools.chain(*self.deny_where)):
            if catalogue is None:
                raise DataError(f"a filter on {condition.column!r} needs the catalogue that has the column.")
        if catalogue is not None:
            for fulfilled in self._fulfilled(catalogue):
                passing[: len(fulfilled)] &= fulfilled[:items]
                passing[len(fulfilled) :] = False
        if self.allow is not None:
            passing &= _members(self.allow, items)
        if self.deny:
            passing &= ~_members(self.deny, items)
        return passing

    def _fulfilled(self, catalogue: Catalogue) -> Iterator[np.ndarray]:
        """Yields bool[rows of the catalogue] of each condition, and of what is refused the negation."""
        for condition in self.conditions:
            yield condition.mask(catalogue)
        for conjunction in self.deny_where:
            yield ~np.logical_and.reduce([condition.mask(catalogue) for condition in conjunction])


EVERYTHING = Filter()  # which all items pass


def _members(chosen: frozenset[int], items: int) -> np.ndarray:
    """Returns bool[items], True for the chosen items; those out of range are ignored."""
    numbers = np.fromiter(chosen, np.int64, len(chosen))
    found = np.zeros(items, bool)
    found[numbers[(numbers >= 0) & (numbers < items)]] = True
    return found
