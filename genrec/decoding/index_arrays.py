"""Arrays of a catalogue index and its filters: their layout, and their construction from a sorted table."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import jax
import numpy as np

from genrec.decoding.sorted_table import SortedTable

# Largest number of possible prefixes of a boundary table: each takes 4 bytes, and a bit per filter.
BOUNDARY_BUDGET = 1 << 22
PREFIXES_PER_ROW = 16  # another limit: a boundary table should not be much larger than the catalogue
SMALL_TABLE = 1 << 16  # prefixes that are always within the budget
BITS = 32  # bits per word of `FilterArrays.exists`
GROWTH = 1 / 32  # share of further rows for which a layout has room by default
NOT_ELIGIBLE = 255  # value of `FilterArrays.shared`

# Arrays are in host memory (NumPy) while an index or a request is prepared, and on devices (JAX) in a search.
ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The shapes of an index. Catalogues of equal layout share compiled functions."""

    sizes: tuple[int, ...]  # codes per level
    tables: int  # number of boundary tables, one for each of the first levels
    windows: tuple[int, ...]  # rows per beam that each later level reads; last, the rows that a complete beam reads
    capacity: int  # rows

    @staticmethod
    def fitting(parts: Sequence[SortedTable], boundary_budget: int | None = None, growth: float = GROWTH) -> "Layout":
        """Returns a layout with room for a share `growth` of more rows, and for wider ranges than any table has.

        `boundary_budget` limits the possible prefixes of each boundary table; 0 means no table, only windows. The
        default is 16 times the rows, clipped to 65,536 to 4,194,304.
        """
        sizes, levels, most_rows = parts[0].sizes, parts[0].levels, max(map(len, parts))
        if boundary_budget is None:
            boundary_budget = min(BOUNDARY_BUDGET, max(SMALL_TABLE, PREFIXES_PER_ROW * most_rows))
        tables = 0
        while tables < levels and math.prod(sizes[: tables + 1]) <= boundary_budget:
            tables += 1
        ranges = [max(part.longest_range(level) for part in parts) for level in range(tables, levels + 1)]
        # Codes that are all different mostly stay so: no room is kept for duplicates.
        wide = [_roomy(longest + math.floor((growth - GROWTH) * longest)) for longest in ranges]
        windows = [*wide[:-1], ranges[-1] if ranges[-1] == 1 else wide[-1]]
        rows = most_rows + math.floor(growth * most_rows) + 64 + max(windows)
        step = 1 << max(6, rows.bit_length() - 7)
        return Layout(sizes, tables, tuple(windows), -(-rows // step) * step)

    def holds(self, table: SortedTable) -> bool:
        """Returns whether the table fits these shapes."""
        levels = range(self.tables, table.levels + 1)
        return (
            self.sizes == table.sizes
            # A window that starts in the last row must lie within the capacity.
            and len(table) + max(self.windows) <= self.capacity
            and all(table.longest_range(level) <= window for level, window in zip(levels, self.windows, strict=True))
        )


def _roomy(longest: int) -> int:
    """Returns the smallest of 2, 4, 6, 8, 12, 16, 24, 32, ... above `longest`."""
    sizes = sorted({2, 4} | {step << shift for step in (2, 3) for shift in range(1, longest.bit_length() + 1)})
    return next(size for size in sizes if size > longest)


class FilterArrays(NamedTuple, Generic[ArrayT]):
    """The eligible items of a filter in the form that the index reads; stacked along a first axis for several."""

    shared: ArrayT  # uint8[capacity], leading codes shared with the previous eligible row; 255: not eligible
    exists: tuple[ArrayT, ...]  # per boundary table uint32[prefixes above, words], a bit for each child


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IndexArrays(Generic[ArrayT]):
    """The arrays of an index, a pytree; `CatalogueIndex` searches them."""

    starts: tuple[ArrayT, ...]  # per boundary table int32[prefixes + 1], the first row of each prefix; last, all rows
    # Per later level int32[capacity], its codes in table order. Not uint16, from which XLA in jaxlib 0.10.2 cannot
    # compile some gathers for CPUs with AVX-512 ("Cannot select ... SUBV_BROADCAST_LOAD"), and aborts the process.
    columns: tuple[ArrayT, ...]
    items: ArrayT  # int32[capacity], the item of each row
    count: ArrayT  # int32[], rows in use
    filters: FilterArrays[ArrayT]  # [filters, ...]; the first filter passes every item
    layout: Layout = dataclasses.field(metadata={"static": True})


def index_arrays(
    table: SortedTable, layout: Layout, filters: list[FilterArrays[np.ndarray]]
) -> IndexArrays[np.ndarray]:
    """Returns the arrays of an index of the table, which must fit the layout."""
    starts: list[np.ndarray] = []
    for level, prefixes in enumerate(_prefixes(table, layout)):
        counts = np.bincount(prefixes, minlength=math.prod(layout.sizes[: level + 1]))
        starts.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    padding = (0, layout.capacity - len(table))
    return IndexArrays(
        starts=tuple(starts),
        columns=tuple(np.pad(column.astype(np.int32), padding) for column in table.codes.T[layout.tables :]),
        items=np.pad(table.items, padding),
        count=np.array(len(table), np.int32),
        filters=jax.tree.map(lambda *parts: np.stack(parts), *filters),
        layout=layout,
    )


def filter_arrays(table: SortedTable, layout: Layout, eligible: np.ndarray | None = None) -> FilterArrays[np.ndarray]:
    """Returns the filter that passes the rows of the table where `eligible` bool[rows] is true; None passes all."""
    rows = np.arange(len(table)) if eligible is None else np.flatnonzero(eligible)
    shared = np.full(layout.capacity, NOT_ELIGIBLE, np.uint8)
    shared[rows] = _shared_among(table, rows)
    exists = []
    for level, prefixes in enumerate(_prefixes(table, layout)):
        size = layout.sizes[level]
        bits = np.zeros((math.prod(layout.sizes[:level]), -(-size // BITS) * BITS), bool)
        chosen = prefixes if eligible is None else prefixes[rows]
        bits[chosen // size, chosen % size] = True
        exists.append(np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32, copy=False))
    return FilterArrays(shared, tuple(exists))


def _shared_among(table: SortedTable, rows: np.ndarray) -> np.ndarray:
    """Returns uint8[n]: leading codes that each of `rows` int[n], ascending, shares with the previous; first 0."""
    if len(rows) == len(table) or not len(rows):
        return table.shared[rows]
    # Two rows share the minimum over the neighboring rows between them.
    return np.minimum.reduceat(table.shared[: rows[-1] + 1], np.concatenate([[0], rows[:-1] + 1]))


def _prefixes(table: SortedTable, layout: Layout) -> list[np.ndarray]:
    """Returns int64[rows] for each boundary table: the number of each row's prefix."""
    numbers, prefix = [], np.zeros(len(table), np.int64)
    for level in range(layout.tables):
        prefix = prefix * layout.sizes[level] + table.codes[:, level]
        numbers.append(prefix)
    return numbers
