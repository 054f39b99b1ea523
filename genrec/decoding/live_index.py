"""A `CatalogueIndex` that follows its catalogue: items come and go, filters are made once and shared by requests."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from genrec import sharding
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding import sharded_index
from genrec.decoding.catalogue_index import CatalogueIndex, Constraints
from genrec.decoding.index_arrays import FilterArrays, Layout, arrays, filter_of
from genrec.decoding.sharded_index import ShardedIndex
from genrec.decoding.sorted_table import CatalogueError, SortedTable

FILTERS = 8  # kept at a time, by default: about a byte an item each
FEWEST_EXCLUDED = 16  # lists of excluded items are padded to this length, or the next power of 2
MOST_EXCLUDED = 1024  # longer lists become a filter of their own


@dataclasses.dataclass(frozen=True)
class Restriction:
    """What one request may get."""

    filter: Filter = EVERYTHING  # what many requests share
    exclude: Sequence[int] = ()  # items of this request's own, such as those of the history


@dataclasses.dataclass(frozen=True)
class _Eligible:
    """The rows of the table that pass a filter."""

    rows: np.ndarray  # int[n], ascending
    shared: np.ndarray  # uint8[n], leading codes that each shares with the one before


class LiveIndex:
    """Not for several threads at once; what `index` and `constraints` gave before a change stays valid."""

    def __init__(
        self,
        table: SortedTable,
        catalogue: Catalogue | None = None,
        filters: int = FILTERS,
        mesh: Mesh | None = None,
        sharded: bool = False,
        boundary_budget: int | None = None,
    ):
        """Args:
        table: The items.
        catalogue: Whose columns filters may ask for; item i is its row i.
        filters: How many are kept at a time, beside the one that lets everything pass. A batch may not use more.
        mesh: Whose devices hold the index, each the whole of it; by default one device.
        cut: Whether each device holds a part instead (genrec.decoding.sharded_index).
        boundary_budget: See `Layout.fitting`.

        Raises CatalogueError where the table is to be cut but the budget allows no boundary table.
        """
        self.mesh = mesh or sharding.one_device()
        self._catalogue, self._filters, self._budget = catalogue, filters, boundary_budget
        self._sharded = sharded
        self._axes = ("table",) if sharded else ()  # the first of every array
        self._layout: Layout | None = None
        self.layouts = 0  # how often shapes were chosen: 1, and once more whenever a change needed more room
        self._set = jax.jit(self._with_filter, out_shardings=sharding.named(self.mesh, *self._axes))
        self._use(table)

    def _together(self, parts: list[Any]) -> Any:
        """The same trees of NumPy arrays of all parts, as one of the index."""
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts) if self._sharded else parts[0]

    def _with_filter(self, filters: FilterArrays, slot: jax.Array, one: FilterArrays) -> FilterArrays:
        place = (*(slice(None) for _ in self._axes), slot)
        return jax.tree.map(lambda all_, part: all_.at[place].set(part), filters, one)

    @property
    def index(self) -> CatalogueIndex:
        """On the devices; pass it to jitted functions as an argument."""
        return self._index

    @property
    def table(self) -> SortedTable:
        return self._table

    def update(
        self,
        add_items: Sequence[int] | np.ndarray = (),
        add_codes: np.ndarray | None = None,
        remove_items: Sequence[int] | np.ndarray = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        """Adds items with their codes uint16[n, levels], and removes others; see `SortedTable.changed`.

        `catalogue` replaces the one whose columns filters ask for. Nothing needs to be compiled again, unless the
        change needs more room than the layout has: that is logged, and `layouts` counts it.
        """
        if add_codes is None:
            add_codes = np.zeros((0, self._table.levels), np.uint16)
        table = self._table.changed(np.asarray(add_items, np.int64), add_codes, remove_items)
        if catalogue is not None:
            self._catalogue = catalogue
        self._use(table)

    def _use(self, table: SortedTable) -> None:
        parts = [] if self._layout is None else table.split(self._bounds)
        if self._layout is None or not all(map(self._layout.holds, parts)):
            self._bounds = sharded_index.bounds(table, sharding.parts(self.mesh, "table") if self._sharded else 1)
            parts = table.split(self._bounds)
            self._layout = Layout.fitting(parts, self._budget)
            if self._sharded and not self._layout.tables:
                raise CatalogueError(
                    f"a table that is cut needs a boundary budget of at least {table.sizes[0]}, the codes of its first "
                    f"level, not {self._budget}"
                )
            self.layouts += 1
            if self.layouts > 1:
                logging.warning(
                    "the catalogue has outgrown its layout: the next search compiles. Now room for %d rows in %s",
                    self._layout.capacity,
                    self._layout,
                )
        self._table, self._parts = table, parts
        slots = self._filters + 1
        host = [arrays(part, self._layout, [filter_of(part, self._layout)] * slots) for part in self._parts]
        index = (ShardedIndex if self._sharded else CatalogueIndex).of(self._together(host))
        self._index = jax.tree.map(lambda x: sharding.put(self.mesh, x, *self._axes), index)
        # The index numbers the rows of each part from a multiple of the capacity on; last, a row beyond all parts.
        numbers = [n * self._layout.capacity + np.arange(len(part)) for n, part in enumerate(self._parts)]
        self._numbers = np.concatenate([*numbers, [len(self._parts) * self._layout.capacity]]).astype(np.int32)
        # Least recently used first. The slot of a filter is its place in the index's arrays; 0 lets everything pass.
        self._slots: collections.OrderedDict[Filter, int] = collections.OrderedDict()
        self._eligible = {0: _Eligible(np.arange(len(table)), table.shared)}

    def constraints(self, restrictions: Sequence[Restriction]) -> Constraints:
        """What each row of a batch may get, in NumPy arrays. The index must be asked for after this.

        Raises CatalogueError for more different filters than are kept, and DataError for what a filter cannot ask.
        """
        filters = [self._with_long_lists(restriction) for restriction in restrictions]
        slots = np.array(self._slots_of(filters), np.int32)
        lists = [
            np.empty(0, np.int64) if len(restriction.exclude) > MOST_EXCLUDED else restriction.exclude
            for restriction in restrictions
        ]
        return self._constraints(slots, lists)

    def _with_long_lists(self, restriction: Restriction) -> Filter:
        wanted = restriction.filter
        if len(restriction.exclude) <= MOST_EXCLUDED:
            return wanted
        return dataclasses.replace(wanted, deny=wanted.deny | frozenset(map(int, restriction.exclude)))

    def _slots_of(self, filters: list[Filter]) -> list[int]:
        """The place of each filter in the index; those that are new take the places of those not used for longest."""
        wanted = dict.fromkeys(one for one in filters if one != EVERYTHING)
        if len(wanted) > self._filters:
            raise CatalogueError(
                f"{len(wanted)} different filters in one batch, but the index keeps {self._filters}: keep more "
                "(filters=), or send requests with equal filters together."
            )
        for known in wanted:
            if known in self._slots:
                self._slots.move_to_end(known)
        for new in wanted:
            if new in self._slots:
                continue
            self._add(new)
        return [0 if one == EVERYTHING else self._slots[one] for one in filters]

    def _add(self, new: Filter) -> None:
        mask = new.mask(len(self._table.row_of), self._catalogue)[self._table.items]
        if len(self._slots) < self._filters:
            slot = len(self._slots) + 1
        else:
            _, slot = self._slots.popitem(last=False)
        masks = np.split(mask, np.cumsum([len(part) for part in self._parts])[:-1])
        made = [filter_of(part, self._layout, mask) for part, mask in zip(self._parts, masks, strict=True)]
        filters = self._set(self._index.filters, slot, self._together(made))
        self._index = dataclasses.replace(self._index, filters=filters)
        rows = np.flatnonzero(mask)
        shared = np.concatenate([one.shared[: len(part)] for one, part in zip(made, self._parts, strict=True)])
        self._eligible[slot] = _Eligible(rows, shared[rows])
        self._slots[new] = slot

    def _constraints(self, slots: np.ndarray, lists: list[Sequence[int]]) -> Constraints:
        batch, longest = len(slots), max(map(len, lists), default=0)
        width = 0 if longest == 0 else max(FEWEST_EXCLUDED, 1 << (longest - 1).bit_length())
        rows = np.full((batch, width), len(self._table), np.int32)
        empty_from = np.full((batch, width), self._table.levels, np.int32)
        owners = np.repeat(np.arange(batch), [len(items) for items in lists])
        items = np.concatenate([np.asarray(items, np.int64) for items in lists]) if batch else np.empty(0, np.int64)
        found = self._table.rows_of(items)
        for slot in np.unique(slots[owners]):
            eligible = self._eligible[int(slot)]
            mine = (slots[owners] == slot) & (found >= 0)
            # Of each owner the eligible rows, each once, in ascending order.
            pairs = np.unique(np.stack([owners[mine], found[mine]], axis=1), axis=0)
            rank = np.searchsorted(eligible.rows, pairs[:, 1])
            passing = np.append(eligible.rows, -1)[rank] == pairs[:, 1]
            pairs, rank = pairs[passing], rank[passing]
            place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
            rows[pairs[:, 0], place] = pairs[:, 1]
            empty_from[pairs[:, 0], place] = _empty_from(pairs[:, 0], rank, eligible.shared)
        codes = self._table.codes[np.minimum(rows, len(self._table) - 1), : self._layout.tables].astype(np.int32)
        return Constraints(slots, self._numbers[rows], empty_from, codes)


def _empty_from(owners: np.ndarray, rank: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The first level at which a prefix of each excluded row has no other eligible rows: int[n].

    All rows with a prefix in common are neighbors. So the eligible rows of a prefix are all excluded if and only if
    they lie in a stretch of neighbors that are, which is where the row shares fewer codes with both ends of it.

    Args:
      owners: int[n], whose list a row is on, ascending.
      rank: int[n], the row's place among the eligible ones, ascending for each owner.
      shared: uint8[eligible], leading codes that each eligible row shares with the one before.
    """
    if not len(rank):
        return np.zeros(0, np.int64)
    stretch = np.cumsum(np.concatenate([[0], (np.diff(rank) != 1) | (np.diff(owners) != 0)]))
    before = shared[rank].astype(np.int64)
    after = np.append(shared, 0)[rank + 1].astype(np.int64)  # shared with the next eligible row
    # Running minima that begin anew with each stretch: later stretches are moved below all earlier ones.
    step = 256
    from_left = np.minimum.accumulate(before - step * stretch) + step * stretch
    from_right = np.minimum.accumulate((after + step * stretch)[::-1])[::-1] - step * stretch
    return np.maximum(from_left, from_right)
