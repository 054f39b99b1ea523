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
# A level has runs rather than a window if its largest range has at least as many rows, and so many times the largest
# number of children.
WIDE_RANGE = 32
ROWS_PER_CHILD = 1.5

# Arrays are in host memory (NumPy) while an index or a request is prepared, and on devices (JAX) in a search.
ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The shapes of an index. Catalogues of equal layout share compiled functions."""

    sizes: tuple[int, ...]  # codes per level
    tables: int  # number of boundary tables, one for each of the first levels
    # Candidates per beam that each later level reads: children if it has runs, rows if not. Last, the rows that a
    # complete beam reads.
    windows: tuple[int, ...]
    runs: tuple[bool, ...]  # whether each later level has runs
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
        more = growth - GROWTH
        windows, runs = [], []
        for level in range(tables, levels + 1):
            longest = max(part.longest_range(level) for part in parts)
            if level < levels:
                most = max(part.most_children(level) for part in parts) if longest >= WIDE_RANGE else longest
                runs.append(longest >= max(WIDE_RANGE, ROWS_PER_CHILD * most))
                wide = _roomy(most if runs[-1] else longest, more)
                windows.append(min(wide, sizes[level]) if runs[-1] else wide)
            else:  # codes that are all different mostly stay so: no room is kept for duplicates
                windows.append(1 if longest == 1 else _roomy(longest, more))
        rows = most_rows + math.floor(growth * most_rows) + 64 + max(windows)
        step = 1 << max(6, rows.bit_length() - 7)
        return Layout(sizes, tables, tuple(windows), tuple(runs), -(-rows // step) * step)

    def holds(self, table: SortedTable) -> bool:
        """Returns whether the table fits these shapes."""
        # A window that starts in the last row must lie within the capacity.
        if self.sizes != table.sizes or len(table) + max(self.windows) > self.capacity:
            return False
        needed = [
            table.most_children(level) if runs else table.longest_range(level)
            for level, runs in enumerate((*self.runs, False), self.tables)
        ]
        return all(candidates <= window for candidates, window in zip(needed, self.windows, strict=True))


def _roomy(longest: int, more: float) -> int:
    """Returns the smallest of 2, 4, 6, 8, 12, 16, 24, 32, ... above `longest` and a share `more` of it."""
    longest += math.floor(more * longest)
    sizes = sorted({2, 4} | {step << shift for step in (2, 3) for shift in range(1, longest.bit_length() + 1)})
    return next(size for size in sizes if size > longest)


class FilterArrays(NamedTuple, Generic[ArrayT]):
    """The eligible items of a filter in the form that the index reads; stacked along a first axis for several."""

    shared: ArrayT  # uint8[capacity], leading codes shared with the previous eligible row; 255: not eligible
    exists: tuple[ArrayT, ...]  # per boundary table uint32[prefixes above, words], a bit for each child
    # Per later level with runs uint32[words], a bit for each child; None for the others.
    children: tuple[ArrayT | None, ...]


class Runs(NamedTuple, Generic[ArrayT]):
    """The children of all prefixes of a level in table order: each is the run of rows from its start to the next."""

    starts: ArrayT  # int32[capacity + 1], the first row of each child; then the number of rows
    marks: ArrayT  # uint32[words], a bit for each row that is a start
    before: ArrayT  # int32[words], the number of starts before each word's first row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IndexArrays(Generic[ArrayT]):
    """The arrays of an index, a pytree; `CatalogueIndex` searches them."""

    starts: tuple[ArrayT, ...]  # per boundary table int32[prefixes + 1], the first row of each prefix; last, all rows
    # Per later level int32[capacity], the codes of its rows, or of its children if it has runs, in table order. Not
    # uint16, from which XLA in jaxlib 0.10.2 cannot compile some gathers for CPUs with AVX-512 ("Cannot select ...
    # SUBV_BROADCAST_LOAD"), and aborts the process.
    columns: tuple[ArrayT, ...]
    runs: tuple[Runs[ArrayT] | None, ...]  # of each later level that has them
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
    runs, columns = [], []
    for later, column in enumerate(table.codes.T[layout.tables :]):
        begins = table.shared <= layout.tables + later
        runs.append(_runs(begins, layout.capacity) if layout.runs[later] else None)
        column = (column[begins] if layout.runs[later] else column).astype(np.int32)
        columns.append(np.pad(column, (0, layout.capacity - len(column))))
    return IndexArrays(
        starts=tuple(starts),
        columns=tuple(columns),
        runs=tuple(runs),
        items=np.pad(table.items, (0, layout.capacity - len(table))),
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
        exists.append(_words(bits))
    children: list[np.ndarray | None] = []
    for level, has_runs in enumerate(layout.runs, layout.tables):
        of_rows = np.cumsum(table.shared <= level) - 1 if has_runs else None
        children.append(None if of_rows is None else _words(_marked(of_rows[rows], layout.capacity)))
    return FilterArrays(shared, tuple(exists), tuple(children))


def _runs(begins: np.ndarray, capacity: int) -> Runs[np.ndarray]:
    """Returns the runs of a level, of which bool[rows] says whether a row begins one."""
    starts = np.full(capacity + 1, len(begins), np.int32)
    found = np.flatnonzero(begins)
    starts[: len(found)] = found
    marked = _marked(found, capacity)
    counts = marked.reshape(-1, BITS).sum(axis=1)
    return Runs(starts, _words(marked), (np.cumsum(counts) - counts).astype(np.int32))


def _marked(places: np.ndarray, capacity: int) -> np.ndarray:
    """Returns bool[n] that is true at these places, for whole words and one beyond the capacity."""
    marked = np.zeros((capacity // BITS + 2) * BITS, bool)
    marked[places] = True
    return marked


def _words(bits: np.ndarray) -> np.ndarray:
    """Returns uint32[..., words] of bool[..., n], where n is a multiple of 32; the lowest bit comes first."""
    return np.packbits(bits, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


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
