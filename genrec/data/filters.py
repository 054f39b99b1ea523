"""Filters on the items that may be returned: conditions on columns of the catalogue, and sets of items.

Filters are hashable values: requests with equal filters share the arrays made from them (`genrec.decoding.live_index`).
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data import timestamps
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.errors import shown

SEPARATOR = "|"  # between the values of a cell with several, such as countries
OPERATORS = ("!=", "!~", ">=", "<=", "=", "~")  # the longer ones first


@dataclasses.dataclass(frozen=True)
class Condition:
    """Condition on a column of the catalogue. Items whose cell is empty fulfil only `!=` and `!~`.

    =   equals one of the values; true or false for columns of booleans
    !=  equals none of the values
    ~   contains one of the values, where the cell is a list, or values separated by "|", such as countries "DE|FR"
    !~  contains none of the values
    >=, <=  compares with a number, or with a time (Unix seconds or ISO 8601)
    """

    column: str
    operator: str
    values: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> "Condition":
        """Parses "media_type=music", "countries~DE,all" or "release_time>=2024-01-31"; raises DataError for others."""
        found = re.fullmatch(rf"\s*([^!<>=~]+?)\s*({'|'.join(OPERATORS)})(.*)", text)
        if found is None:
            raise DataError(
                f"cannot parse the filter {text!r}. Write COLUMN, one of {', '.join(OPERATORS)}, and one or several "
                "values separated by commas: media_type=music,podcast"
            )
        column, operator, values = found.groups()
        return Condition(column, operator, tuple(value.strip() for value in values.split(",")))

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
            return self._compare(column)
        fulfilled = _has(column, self.values) if "~" in self.operator else self._equal(column)
        return ~fulfilled if self.operator.startswith("!") else fulfilled

    def _equal(self, column: pa.Array) -> np.ndarray:
        if pa.types.is_floating(column.type) or pa.types.is_temporal(column.type):
            numbers, known = _numbers(column)
            return known & np.isin(numbers, [self._number(value) for value in self.values])
        equal = pc.is_in(column.cast(pa.string()), pa.array(self.values, pa.string()))
        fulfilled = equal.fill_null(False).to_numpy(zero_copy_only=False)
        if not fulfilled.any() and (among := int(_has(column, self.values).sum())):
            raise DataError(
                f"filter on {self.column!r}: no cell is {' or '.join(map(shown, self.values))}, but {among:,} have it "
                "among other values. Use ~ or !~ to test what they contain."
            )
        return fulfilled

    def _compare(self, column: pa.Array) -> np.ndarray:
        if len(self.values) > 1:
            raise DataError(f"filter on {self.column!r}: {self.operator} takes one value, not {len(self.values)}.")
        number = self._number(self.values[0])
        numbers, known = _numbers(column)
        with np.errstate(invalid="ignore"):  # comparisons with NaN
            return known & (numbers >= number if self.operator == ">=" else numbers <= number)

    def _number(self, value: str) -> float:
        """Returns the number that `value` is, or the Unix seconds of the time."""
        try:
            return float(value)
        except ValueError:
            (number,), (readable,) = timestamps.parse(pa.array([value]))
            if not readable:
                raise DataError(
                    f"filter on {self.column!r}: {value!r} is neither a number nor a time such as 2024-01-31."
                ) from None
            return float(number)


def _numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers or Unix seconds of a column, and bool[rows], True where a cell is a number or a time."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        return numbers, column.is_valid().to_numpy(zero_copy_only=False)
    return timestamps.parse(column)


def _has(column: pa.Array, values: tuple[str, ...]) -> np.ndarray:
    """Returns bool[rows], True where a cell, a list or text with separators, contains one of the values."""
    if pa.types.is_nested(column.type):
        rows, cells = pc.list_parent_indices(column), pc.list_flatten(column).cast(pa.string())
    else:
        cells = pc.split_pattern(column.cast(pa.string()), SEPARATOR)
        rows, cells = pc.list_parent_indices(cells), pc.utf8_trim_whitespace(pc.list_flatten(cells))
    fulfilled = np.zeros(len(column), bool)
    fulfilled[rows.filter(pc.is_in(cells, pa.array(values, pa.string()))).to_numpy()] = True
    return fulfilled


@dataclasses.dataclass(frozen=True)
class Filter:
    """Conjunction of conditions, an allow list and a deny list of items."""

    conditions: tuple[Condition, ...] = ()
    allow: frozenset[int] | None = None  # rows of the catalogue; None allows all
    deny: frozenset[int] = frozenset()  # rows of the catalogue

    @staticmethod
    def parse(texts: Sequence[str]) -> "Filter":
        """Returns the filter with the conditions that `Condition.parse` reads."""
        return Filter(tuple(map(Condition.parse, texts)))

    def mask(self, items: int, catalogue: Catalogue | None) -> np.ndarray:
        """Returns bool[items], True for items that pass. Items beyond the catalogue fulfil no condition."""
        passing = np.ones(items, bool)
        for condition in self.conditions:
            if catalogue is None:
                raise DataError(f"a filter on {condition.column!r} needs the catalogue that has the column.")
            fulfilled = condition.mask(catalogue)[:items]
            passing[: len(fulfilled)] &= fulfilled
            passing[len(fulfilled) :] = False
        if self.allow is not None:
            passing &= _members(self.allow, items)
        if self.deny:
            passing &= ~_members(self.deny, items)
        return passing


EVERYTHING = Filter()  # which all items pass


def _members(chosen: frozenset[int], items: int) -> np.ndarray:
    """Returns bool[items], True for the chosen items; those out of range are ignored."""
    numbers = np.fromiter(chosen, np.int64, len(chosen))
    found = np.zeros(items, bool)
    found[numbers[(numbers >= 0) & (numbers < items)]] = True
    return found
