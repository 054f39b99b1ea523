"""Which items of a catalogue a request may get: conditions on the catalogue's columns, and sets of items.

A filter is a value: two requests with equal filters share what is made of them (`genrec.decoding.live_index`).
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

SEPARATOR = "|"  # between the values of a cell that has several, such as countries
OPERATORS = ("!=", "!~", ">=", "<=", "=", "~")  # the longer ones first


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a column must be. An item whose cell is empty fulfils no condition but `!=` and `!~`.

    =   one of the values; true and false for yes-or-no columns
    !=  none of the values
    ~   has one of the values, where the cell is a list or values separated by "|", such as countries "DE|FR"
    !~  has none of the values
    >=, <=  a number, or a time (Unix seconds or ISO 8601)
    """

    column: str
    operator: str
    values: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> "Condition":
        """Reads "media_type=music", "countries~DE,all" or "release_time>=2024-01-31"; raises DataError."""
        found = re.fullmatch(rf"\s*([^!<>=~]+?)\s*({'|'.join(OPERATORS)})(.*)", text)
        if found is None:
            raise DataError(
                f"cannot read the filter {text!r}. Write COLUMN, one of {', '.join(OPERATORS)}, and a value or several "
                "with commas: media_type=music,podcast"
            )
        column, operator, values = found.groups()
        return Condition(column, operator, tuple(value.strip() for value in values.split(",")))

    def mask(self, catalogue: Catalogue) -> np.ndarray:
        """bool[items], true where the condition is fulfilled; raises DataError where it cannot be judged."""
        column = catalogue.column(self.column)
        lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        if pa.types.is_nested(column.type) and not lists:
            raise DataError(f"filter on {self.column!r}: nobody can ask cells of {column.type}. Use text, or lists.")
        if lists and self.operator not in ("~", "!~"):
            raise DataError(f"filter on {self.column!r}: its cells are lists. Use ~ or !~ to ask what they have.")
        if self.operator in (">=", "<="):
            return self._compare(column)
        fulfilled = _has(column, self.values) if "~" in self.operator else self._equal(column)
        return ~fulfilled if self.operator.startswith("!") else fulfilled

    def _equal(self, column: pa.Array) -> np.ndarray:
        if pa.types.is_floating(column.type) or pa.types.is_temporal(column.type):
            numbers, known = _numbers(column)
            return known & np.isin(numbers, [self._number(value) for value in self.values])
        fulfilled = pc.is_in(column.cast(pa.string()), pa.array(self.values, pa.string()))
        return fulfilled.fill_null(False).to_numpy(zero_copy_only=False)

    def _compare(self, column: pa.Array) -> np.ndarray:
        if len(self.values) > 1:
            raise DataError(f"filter on {self.column!r}: {self.operator} takes one value, not {len(self.values)}.")
        number = self._number(self.values[0])
        numbers, known = _numbers(column)
        with np.errstate(invalid="ignore"):  # comparing with what is not a number
            return known & (numbers >= number if self.operator == ">=" else numbers <= number)

    def _number(self, value: str) -> float:
        """A number as it is, a time in Unix seconds."""
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
    """Numbers as they are, times in Unix seconds; and bool[rows], which cells are one."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        return numbers, column.is_valid().to_numpy(zero_copy_only=False)
    return timestamps.parse(column)


def _has(column: pa.Array, values: tuple[str, ...]) -> np.ndarray:
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
    """All conditions together, and one of the allowed items if any are named, and none of the denied ones."""

    conditions: tuple[Condition, ...] = ()
    allow: frozenset[int] | None = None  # rows of the catalogue
    deny: frozenset[int] = frozenset()  # rows of the catalogue

    @staticmethod
    def parse(texts: Sequence[str]) -> "Filter":
        """A filter of conditions; see `Condition.parse`."""
        return Filter(tuple(map(Condition.parse, texts)))

    def mask(self, items: int, catalogue: Catalogue | None) -> np.ndarray:
        """bool[items], true for items that pass. Items beyond the catalogue fulfil no condition."""
        passing = np.ones(items, bool)
        if self.conditions and catalogue is None:
            raise DataError(f"a filter on {self.conditions[0].column!r} needs the catalogue that has the column.")
        for condition in self.conditions:
            fulfilled = condition.mask(catalogue)[:items]
            passing[: len(fulfilled)] &= fulfilled
            passing[len(fulfilled) :] = False
        if self.allow is not None:
            passing &= _members(self.allow, items)
        if self.deny:
            passing &= ~_members(self.deny, items)
        return passing


EVERYTHING = Filter()


def _members(chosen: frozenset[int], items: int) -> np.ndarray:
    numbers = np.fromiter(chosen, np.int64, len(chosen))
    found = np.zeros(items, bool)
    found[numbers[(numbers >= 0) & (numbers < items)]] = True
    return found
