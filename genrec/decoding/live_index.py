"""Catalogue index of a changing catalogue: items are added and removed, and requests share filters."""

import collections
import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from genrec import sharding
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.catalogue_index import CatalogueIndex, Constraints
from genrec.decoding.index_arrays import FilterArrays, Layout, filter_arrays, index_arrays
from genrec.decoding.sharded_index import ShardedIndex, shard_bounds
from genrec.decoding.sorted_table import CatalogueError, SortedTable
from genrec.input_pipeline.mentions import EXISTS

FILTERS = 8  # default number of filters kept at a time; each takes a byte per item and, at levels with runs, bits
MIN_EXCLUDED = 16  # lists of excluded items are padded to this length, or the next power of 2
TRANSITIONS_UNIT = 2**31  # the sum of the probabilities of all items, as integers
MAX_EXCLUDED = 1024  # a longer list becomes a filter of its own while the index keeps enough filters


@dataclasses.dataclass(frozen=True)
class Restriction:
    """The eligible items of a request."""

    filter: Filter = EVERYTHING  # shared by requests
    exclude: Sequence[int] | np.ndarray = ()  # items of this request alone, such as those of the history


@dataclasses.dataclass(frozen=True)
class _Eligible:
    """The rows of the table that pass a filter."""

    rows: np.ndarray  # int[n], ascending
    shared: np.ndarray  # uint8[n], leading codes that each shares with the previous one


class LiveIndex:
    """Catalogue index that can be updated; earlier results of `index` and `constraints` stay valid.

    Several threads may search it at once with `constrained`, but not during an update.
    """

    def __init__(
        self,
        table: SortedTable,
        catalogue: Catalogue | None = None,
        filters: int = FILTERS,
        mesh: Mesh | None = None,
        sharded: bool = False,
        boundary_budget: int | None = None,
        layout: Layout | None = None,
        excluded: int | None = None,
    ):
        """Args:
        table: The items.
        catalogue: The columns that filters refer to; item i is row i.
        filters: Number of filters kept at a time, beside the one that passes every item; a batch may not use more.
        mesh: The devices that hold the index, by default one.
        sharded: Whether each device holds a shard (genrec.decoding.sharded_index) rather than all of the index.
        boundary_budget: See `Layout.fitting`.
        layout: The only layout, for an index that is not sharded: changes that do not fit it are refused.
        excluded: Length to which all lists of excluded items are padded. A longer one becomes a filter of its own; by
          default lists are padded to one of few lengths.

        Raises CatalogueError if the table is sharded but the budget allows no boundary table.
        """
        self.mesh, self._lock = mesh or sharding.one_device(), threading.Lock()
        self._catalogue, self._filters, self._budget = catalogue, filters, boundary_budget
        self._sharded, self._only_layout, self._width = sharded, layout, excluded
        self._axes = ("table",) if sharded else ()  # names of the first axis of every array
        self.layouts = 0  # number of layouts so far: 1, and one more whenever a change needs more room
        self._set = jax.jit(self._with_filter, out_shardings=sharding.named(self.mesh, *self._axes))
        self._use(table, self._choose_layout(table))

    def _stack(self, shards: list[Any]) -> Any:
        """Stacks the trees of NumPy arrays of all shards."""
        return jax.tree.map(lambda *leaves: np.stack(leaves), *shards) if self._sharded else shards[0]

    def _with_filter(
        self, filters: FilterArrays[jax.Array], slot: jax.Array, one: FilterArrays[jax.Array]
    ) -> FilterArrays[jax.Array]:
        place = (*(slice(None) for _ in self._axes), slot)
        return jax.tree.map(lambda all_, part: all_.at[place].set(part), filters, one)

    def update(
        self,
        add_items: Sequence[int] | np.ndarray = (),
        add_codes: np.ndarray | None = None,
        remove_items: Sequence[int] | np.ndarray = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        """Adds items with their codes uint16[n, levels], and removes others; see `SortedTable.changed`.

        `catalogue` replaces the columns that filters refer to. Nothing is compiled again, unless the change needs more
        room than the layout has: that is logged, and `layouts` counts it. An index with an only layout raises
        CatalogueError then, and is unchanged.
        """
        if add_codes is None:
            add_codes = np.zeros((0, self.table.levels), np.uint16)
        table = self.table.changed(np.asarray(add_items, np.int64), add_codes, remove_items)
        if self._only_layout is not None and not self._only_layout.holds(table):
            raise CatalogueError(
                f"{len(table):,} items, or those with equal first codes, exceed the room of the index, "
                f"{self._only_layout}: export a bundle with more --room"
            )
        shards = table.split(self._bounds)
        if not all(map(self._layout.holds, shards)):
            shards = self._choose_layout(table)
            logging.warning(
                f"the catalogue has outgrown its layout: the next search compiles. New layout: {self._layout}"
            )
        self._use(table, shards)
        if catalogue is not None:  # at the end: an index that an error leaves as it was keeps its columns too
            self._catalogue = catalogue

    def _choose_layout(self, table: SortedTable) -> list[SortedTable]:
        """Chooses shapes and, if sharded, the bounds of shards; returns the shards, or the table as the only one."""
        self._bounds = shard_bounds(table, sharding.parts(self.mesh, "table") if self._sharded else 1)
        shards = table.split(self._bounds)
        self._layout = self._only_layout or Layout.fitting(shards, self._budget)
        if self._only_layout is not None and not self._layout.holds(table):
            raise CatalogueError(f"the table does not fit {self._layout}")
        if self._sharded and not self._layout.tables:
            raise CatalogueError(
                f"boundary_budget={self._budget} must be at least {table.sizes[0]}, the codes of level 0"
            )
        self.layouts += 1
        return shards

    def _use(self, table: SortedTable, shards: list[SortedTable]) -> None:
        layout, slots = self._layout, self._filters + 1
        host = [index_arrays(shard, layout, [filter_arrays(shard, layout)] * slots) for shard in shards]
        arrays = jax.tree.map(lambda x: sharding.put(self.mesh, x, *self._axes), self._stack(host))
        index = (ShardedIndex if self._sharded else CatalogueIndex).of(arrays)
        # The index numbers the rows of each shard from a multiple of the capacity; last, a row beyond all shards.
        numbers = [n * layout.capacity + np.arange(len(shard)) for n, shard in enumerate(shards)]
        joined = np.concatenate([*numbers, [len(shards) * layout.capacity]]).astype(np.int32)
        every = _Eligible(np.arange(len(table)), table.shared)
        # What follows cannot fail: an index is never made of parts of two tables.
        self.table, self._shards, self._numbers = table, shards, joined
        self.index: CatalogueIndex = index  # on the devices: pass it to jitted functions as an argument
        # Least recently used first. The slot of a filter is its place in the index's arrays; slot 0 passes every item.
        self._slots: collections.OrderedDict[Filter, int] = collections.OrderedDict()
        self._eligible = {0: every}

    def cumulated(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns uint32[batch, rows + 1]: the probabilities of the index's rows, cumulated; see `log_shares` there.

        `probabilities` float32[batch, items] are those of items; items beyond them are as likely as the rarest.
        """
        known = np.minimum(self.table.items, probabilities.shape[1] - 1)
        rows = probabilities[:, known].astype(np.float64)
        rows[:, self.table.items >= probabilities.shape[1]] = probabilities.min(axis=1, keepdims=True)
        rows = np.maximum(np.rint(rows * (TRANSITIONS_UNIT / rows.sum(axis=1, keepdims=True))), 1)
        found = np.zeros((len(rows), len(self._shards) * self._layout.capacity + 1), np.uint32)
        found[:, self._numbers[:-1] + 1] = rows
        return np.cumsum(found, axis=1, dtype=np.uint32)

    def in_rows(self, bits: np.ndarray) -> np.ndarray:
        """Returns uint16[batch, 1, rows]: the bits of the index's rows, with `mentions.EXISTS` where there is an item.

        `bits` uint16[batch, 1, items] are those of items; items beyond them have none.
        """
        found = np.zeros((*bits.shape[:2], len(self._shards) * self._layout.capacity), np.uint16)
        known = np.minimum(self.table.items, bits.shape[2] - 1)
        of_rows = np.where(self.table.items < bits.shape[2], bits[..., known], 0)
        found[..., self._numbers[:-1]] = of_rows | np.uint16(EXISTS)
        return found

    def constraints(self, restrictions: Sequence[Restriction]) -> Constraints[np.ndarray]:
        """Returns the constraints of a batch, for the `index` as it is after this call; see `constrained`."""
        return self.constrained(restrictions)[0]

    def constrained(self, restrictions: Sequence[Restriction]) -> tuple[Constraints[np.ndarray], CatalogueIndex]:
        """Returns the constraints of a batch, and the index that they are for: a later batch may drop its filters.

        Raises CatalogueError for more different filters than are kept, and DataError for an invalid condition.
        """
        filters, lists = [], []
        room = self._filters - len({restriction.filter for restriction in restrictions} - {EVERYTHING})
        longest = MAX_EXCLUDED if self._width is None else self._width
        for restriction in restrictions:
            wanted, excluded = restriction.filter, np.asarray(restriction.exclude, np.int64)
            if len(excluded):
                excluded = np.unique(excluded)
            if len(excluded) > longest and (room > 0 or self._width is not None):
                wanted = dataclasses.replace(wanted, deny=wanted.deny | frozenset(excluded.tolist()))
                excluded, room = excluded[:0], room - 1
            filters.append(wanted)
            lists.append(excluded)
        with self._lock:
            return self._constraints(np.array(self._slots_of(filters), np.int32), lists), self.index

    def _slots_of(self, filters: list[Filter]) -> list[int]:
        """Returns the slot of each filter; new filters take those of the least recently used."""
        wanted = dict.fromkeys(one for one in filters if one != EVERYTHING)
        if len(wanted) > self._filters:
            raise CatalogueError(
                f"{len(wanted)} different filters in one batch, but the index keeps {self._filters}: increase "
                "`filters`, or batch requests with equal filters."
            )
        for known in wanted:
            if known in self._slots:
                self._slots.move_to_end(known)
        for new in wanted:
            if new not in self._slots:
                self._add(new)
        return [0 if one == EVERYTHING else self._slots[one] for one in filters]

    def _add(self, new: Filter) -> None:
        mask = new.mask(len(self.table.row_of), self._catalogue)[self.table.items]
        if len(self._slots) < self._filters:
            slot = len(self._slots) + 1
        else:
            _, slot = self._slots.popitem(last=False)
        masks = np.split(mask, np.cumsum([len(shard) for shard in self._shards])[:-1])
        made = [filter_arrays(shard, self._layout, mask) for shard, mask in zip(self._shards, masks, strict=True)]
        filters = self._set(self.index.filters, slot, self._stack(made))
        self.index = dataclasses.replace(self.index, filters=filters)
        rows = np.flatnonzero(mask)
        shared = np.concatenate([one.shared[: len(shard)] for one, shard in zip(made, self._shards, strict=True)])
        self._eligible[slot] = _Eligible(rows, shared[rows])
        self._slots[new] = slot

    def _constraints(self, slots: np.ndarray, lists: list[np.ndarray]) -> Constraints[np.ndarray]:
        """Returns the constraints of a batch with these slots of filters and lists of excluded items."""
        batch, longest = len(slots), max(map(len, lists), default=0)
        width = 0 if longest == 0 else max(MIN_EXCLUDED, 1 << (longest - 1).bit_length())
        width = width if self._width is None else max(width, self._width)
        rows = np.full((batch, width), len(self.table), np.int32)
        empty_from = np.full((batch, width), self.table.levels, np.int32)
        all_owners = np.repeat(np.arange(batch), [len(items) for items in lists])
        found = self.table.rows_of(np.concatenate([np.empty(0, np.int64), *lists]))
        for slot in set(slots[all_owners].tolist()):
            eligible = self._eligible[slot]
            mine = (slots[all_owners] == slot) & (found >= 0)
            # The eligible rows of each owner in ascending order; they are distinct, as the items of a list are.
            order = np.lexsort((found[mine], all_owners[mine]))
            owners, excluded = all_owners[mine][order], found[mine][order]
            rank = np.searchsorted(eligible.rows, excluded)
            passing = np.append(eligible.rows, -1)[rank] == excluded
            owners, excluded, rank = owners[passing], excluded[passing], rank[passing]
            place = np.arange(len(owners)) - np.searchsorted(owners, owners)
            rows[owners, place] = excluded
            empty_from[owners, place] = _empty_from(owners, rank, eligible.shared)
        codes = self.table.codes[np.minimum(rows, len(self.table) - 1), : self._layout.tables].astype(np.int32)
        return Constraints(slots, self._numbers[rows], empty_from, codes)


def _empty_from(owners: np.ndarray, rank: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Returns int[n]: the first level at which all eligible rows with the prefix of an excluded row are excluded.

    Rows with a common prefix are neighbors. So the eligible rows of a prefix are all excluded if and only if they lie
    in one run of excluded rows, which is so for prefixes longer than those shared with the rows beyond both its ends.

    `owners` int[n] are the lists of the rows, ascending, `rank` int[n] their places among the eligible rows, ascending
    for each owner, and `shared` uint8[eligible] the leading codes that eligible rows share with the previous one.
    """
    if not len(rank):
        return np.zeros(0, np.int64)
    run = np.cumsum(np.concatenate([[0], (np.diff(rank) != 1) | (np.diff(owners) != 0)]))
    before = shared[rank].astype(np.int64)
    after = np.append(shared, 0)[rank + 1].astype(np.int64)  # shared with the next eligible row
    # Running minima within each run: later runs are shifted below all earlier ones.
    step = 256
    from_left = np.minimum.accumulate(before - step * run) + step * run
    from_right = np.minimum.accumulate((after + step * run)[::-1])[::-1] - step * run
    return np.maximum(from_left, from_right)
