"""The arrays of a catalogue index and of its filters: their layout, and how they are made from a sorted table."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from genrec.decoding.sorted_table import SortedTable

# Possible prefixes, at most, of a level that has a boundary table: 4 bytes each, and a bit for each filter.
BOUNDARY_BUDGET = 1 << 22
PREFIXES_PER_ROW = 16  # at most, for the same: tables should not outgrow the catalogue
SMALL_TABLE = 1 << 16  # prefixes that are always within the budget
BITS = 32  # of a word of `exists`
NOT_ELIGIBLE = 255  # in `shared`


@dataclasses.dataclass(frozen=True)
class Layout:
    """The shapes of an index. Two catalogues of the same layout run through the same compiled function."""

    sizes: tuple[int, ...]  # codes of each level
    tables: int  # levels, from the first, that have boundary tables
    windows: tuple[int, ...]  # rows that each later level reads, and last the rows that a leaf reads
    capacity: int  # rows

    @staticmethod
    def fitting(parts: Sequence[SortedTable], boundary_budget: int | None = None) -> "Layout":
        """A layout with room for 3% more rows, and wider ranges, than any of the tables has.

        `boundary_budget` bounds the prefixes of each boundary table; 0 reads windows at every level. The default is
        16 times the rows, but from 65,536 to 4,194,304.
        """
        sizes, levels, most_rows = parts[0].sizes, parts[0].levels, max(map(len, parts))
        if boundary_budget is None:
            boundary_budget = min(BOUNDARY_BUDGET, max(SMALL_TABLE, PREFIXES_PER_ROW * most_rows))
        tables = 0
        while tables < levels and math.prod(sizes[: tables + 1]) <= boundary_budget:
            tables += 1
        ranges = [max(part.longest_range(level) for part in parts) for level in range(tables, levels + 1)]
        # Codes that are all different stay so unless somebody adds a duplicate: no room is kept for that.
        windows = [_roomy(longest) for longest in ranges[:-1]] + [ranges[-1] if ranges[-1] == 1 else _roomy(ranges[-1])]
        rows = most_rows + most_rows // 32 + 64 + max(windows)
        step = 1 << max(6, rows.bit_length() - 7)
        return Layout(sizes, tables, tuple(windows), -(-rows // step) * step)

    def holds(self, table: SortedTable) -> bool:
        """Whether the table fits into these shapes."""
        levels = range(self.tables, table.levels + 1)
        return (
            self.sizes == table.sizes
            # A window that begins in the last row must not be moved back to fit.
            and len(table) + max(self.windows) <= self.capacity
            and all(table.longest_range(level) <= window for level, window in zip(levels, self.windows, strict=True))
        )


def _roomy(longest: int) -> int:
    """The least of 2, 4, 6, 8, 12, 16, 24, 32, ... beyond `longest`."""
    sizes = sorted({2, 4} | {step << shift for step in (2, 3) for shift in range(1, longest.bit_length() + 1)})
    return next(size for size in sizes if size > longest)


class FilterArrays(NamedTuple):
    """Which items are eligible, as the index reads it; made by `filter_of`. A leading axis where there are several."""

    shared: jax.Array  # uint8[capacity], leading codes shared with the eligible row before; 255: not eligible
    exists: tuple[jax.Array, ...]  # of each boundary table: uint32[prefixes above, words], a bit for each child


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IndexArrays:
    """The arrays of an index, a pytree; `CatalogueIndex` searches in them."""

    starts: tuple[jax.Array, ...]  # of each boundary table: int32[prefixes + 1], the first row of each; last, all rows
    columns: tuple[jax.Array, ...]  # of the later levels: uint16[capacity], the level's codes in table order
    items: jax.Array  # int32[capacity], the item of each row
    count: jax.Array  # int32[], rows in use
    filters: FilterArrays  # [filters, ...]; the first one lets every item pass
    layout: Layout = dataclasses.field(metadata={"static": True})


def arrays(table: SortedTable, layout: Layout, filters: list[FilterArrays]) -> IndexArrays:
    """The index in NumPy arrays. The table must fit the layout."""
    starts = []
    for prefixes in _prefixes(table, layout):
        possible = math.prod(layout.sizes[: len(starts) + 1])
        counts = np.bincount(prefixes, minlength=possible)
        starts.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return IndexArrays(
        starts=tuple(starts),
        columns=tuple(_padded(table.codes[:, level], layout) for level in range(layout.tables, table.levels)),
        items=_padded(table.items, layout),
        count=np.array(len(table), np.int32),
        filters=jax.tree.map(lambda *parts: np.stack(parts), *filters),
        layout=layout,
    )


def filter_of(table: SortedTable, layout: Layout, eligible: np.ndarray | None = None) -> FilterArrays:
    """The filter that lets those rows of the table pass for which `eligible` bool[rows] is true; None: all."""
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
    """uint8[n]: leading codes that each of `rows` int[n], ascending, shares with the one before it; 0 for the first."""
    if len(rows) == len(table) or not len(rows):
        return table.shared[rows]
    # Two rows share as much as the least that neighbors between them do.
    return np.minimum.reduceat(table.shared[: rows[-1] + 1], np.concatenate([[0], rows[:-1] + 1]))


def _prefixes(table: SortedTable, layout: Layout) -> list[np.ndarray]:
    """int64[rows] for each boundary table: the number of each row's prefix."""
    numbers, prefix = [], np.zeros(len(table), np.int64)
    for level in range(layout.tables):
        prefix = prefix * layout.sizes[level] + table.codes[:, level]
        numbers.append(prefix)
    return numbers


def _padded(column: np.ndarray, layout: Layout) -> np.ndarray:
    padded = np.zeros(layout.capacity, column.dtype)
    padded[: len(column)] = column
    return padded
