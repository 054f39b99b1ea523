"""Sorted table of a catalogue in host memory: items sorted by their codes, while items are added and removed.

All items with a common prefix are neighbors. `genrec.decoding.index_arrays` makes the arrays of a search from it.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import artifacts
from genrec.errors import GenrecError
from genrec.files import load_array, save_array
from genrec.semantic_ids.codes import SemanticIds

KIND = "catalogue_index"
FOLDER = "catalogue_index"  # in a work directory, beside its checkpoints
CODES_FILE, ITEMS_FILE = "codes.npy", "items.npy"
MAX_LEVELS = 254  # numbers of shared levels are stored in bytes, of which one value means "not eligible"


class CatalogueError(GenrecError):
    """Codes or items that are invalid in a catalogue or in a change of it. The message says which, and why."""


@dataclasses.dataclass(frozen=True, eq=False)
class SortedTable:
    """Items of a catalogue ordered by their codes, and those with equal codes by item number."""

    codes: np.ndarray  # uint16[rows, levels]
    items: np.ndarray  # int32[rows], the item of each row, all different
    sizes: tuple[int, ...]  # codes per level

    @staticmethod
    def build(codes: np.ndarray, sizes: Sequence[int], items: np.ndarray | None = None) -> "SortedTable":
        """Sorts items by codes uint16[items, levels], where codes[:, level] < sizes[level]; codes may be equal.

        `items` int32[items] are the item numbers, by default 0, 1, ... Raises CatalogueError for codes that do not fit
        the sizes, for an empty catalogue, and for items that occur twice.
        """
        sizes = tuple(int(size) for size in sizes)
        _check_codes(codes, sizes)
        if not len(codes):
            raise CatalogueError("the catalogue is empty: it needs at least one item")
        items = _check_items(np.arange(len(codes)) if items is None else items, len(codes))
        # One stable sort per level, last level first; on 16-bit codes NumPy's stable sort is a radix sort.
        order = np.argsort(items, kind="stable")
        for level in reversed(range(len(sizes))):
            order = order[np.argsort(codes[order, level], kind="stable")]
        return SortedTable(codes[order], items[order], sizes)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def levels(self) -> int:
        return len(self.sizes)

    @functools.cached_property
    def shared(self) -> np.ndarray:
        """uint8[rows]: the number of leading codes that a row shares with the previous row; 0 for the first."""
        shared = np.zeros(len(self), np.uint8)
        same = np.arange(len(self)) > 0
        for level in range(self.levels):
            same[1:] &= self.codes[1:, level] == self.codes[:-1, level]
            shared += same
        return shared

    @functools.cached_property
    def row_of(self) -> np.ndarray:
        """int32[largest item + 1]: the row of each item, -1 for items that are not in the catalogue."""
        rows = np.full(int(self.items.max()) + 1, -1, np.int32)
        rows[self.items] = np.arange(len(self), dtype=np.int32)
        return rows

    def rows_of(self, items: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns int32[n]: the rows of items int[n]; -1 for items that are not in the catalogue."""
        wanted = np.asarray(items, np.int64)
        known = (wanted >= 0) & (wanted < len(self.row_of))
        return np.where(known, self.row_of[np.where(known, wanted, 0)], np.int32(-1))

    def longest_range(self, level: int) -> int:
        """Returns the size of the largest range of rows whose codes before `level` (at most `levels`) are equal."""
        starts = np.flatnonzero(self.shared < level)
        return int(np.diff(np.append(starts, len(self))).max(initial=0)) if level else len(self)

    def most_children(self, level: int) -> int:
        """Returns the largest number of different codes at `level` of rows whose codes before it are equal."""
        parents = np.flatnonzero(self.shared[self.shared <= level] < level) if level else np.zeros(1, np.int64)
        return int(np.diff(np.append(parents, np.count_nonzero(self.shared <= level))).max(initial=0))

    def split(self, bounds: np.ndarray) -> list["SortedTable"]:
        """Splits the table at `bounds`, int[parts - 1]: the first codes at which the second and later parts begin."""
        if not len(bounds):
            return [self]
        at = np.searchsorted(self.codes[:, 0], bounds)
        parts = zip(np.split(self.codes, at), np.split(self.items, at), strict=True)
        return [SortedTable(codes, items, self.sizes) for codes, items in parts]

    def changed(
        self, add_items: np.ndarray, add_codes: np.ndarray, remove_items: np.ndarray | Sequence[int] = ()
    ) -> "SortedTable":
        """Returns the table without `remove_items` and with `add_items` int[n], whose codes are uint16[n, levels].

        Equal to `build` of the new catalogue, but by a merge rather than a sort. Raises CatalogueError for codes that
        do not fit, if an item to remove is not in the catalogue, or if an item to add is and is not removed too.
        """
        remove = self.rows_of(remove_items)
        if (remove < 0).any():
            raise CatalogueError(
                f"item {np.asarray(remove_items)[remove < 0][0]} is not in the catalogue: cannot remove it"
            )
        kept = np.ones(len(self), bool)
        kept[remove] = False
        _check_codes(add_codes, self.sizes)
        add_items = _check_items(add_items, len(add_codes))
        rows = self.rows_of(add_items)
        there = (rows >= 0) & kept[rows]
        if there.any():
            raise CatalogueError(f"item {add_items[there][0]} is in the catalogue already: remove it in the same call")
        codes, items = self.codes[kept], self.items[kept]
        if not len(items) + len(add_items):
            raise CatalogueError("the catalogue would be empty: keep at least one item")
        if len(add_items):
            added = SortedTable.build(add_codes, self.sizes, add_items)
            place = np.searchsorted(_sort_keys(codes, items), _sort_keys(added.codes, added.items))
            codes, items = np.insert(codes, place, added.codes, axis=0), np.insert(items, place, added.items)
        return SortedTable(codes, items, self.sizes)


def save(workdir: epath.PathLike, semantic_ids: SemanticIds) -> None:
    """Writes the sorted table of these semantic IDs into the work directory, unless it is up to date."""
    path, fingerprint = epath.Path(workdir) / FOLDER, semantic_ids.fingerprint
    if artifacts.up_to_date(path, KIND, fingerprint):
        return
    table = SortedTable.build(semantic_ids.codes, semantic_ids.sizes)
    with artifacts.writing(path, KIND, fingerprint, config={"sizes": table.sizes}, inputs={}) as draft:
        save_array(draft.path / CODES_FILE, table.codes)
        save_array(draft.path / ITEMS_FILE, table.items)


def load(workdir: epath.PathLike, semantic_ids: SemanticIds) -> SortedTable:
    """Loads the sorted table of these semantic IDs; builds it if the work directory has none."""
    path = epath.Path(workdir) / FOLDER
    if artifacts.up_to_date(path, KIND, semantic_ids.fingerprint):
        return SortedTable(load_array(path / CODES_FILE), load_array(path / ITEMS_FILE), semantic_ids.sizes)
    return SortedTable.build(semantic_ids.codes, semantic_ids.sizes)


def _sort_keys(codes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns one comparable value per row: the big-endian bytes of its codes and its item."""
    content = np.concatenate([codes.astype(">u2").view(np.uint8), items[:, None].astype(">u4").view(np.uint8)], axis=1)
    return np.ascontiguousarray(content).view(f"S{content.shape[1]}")[:, 0]


def _check_codes(codes: np.ndarray, sizes: tuple[int, ...]) -> None:
    if codes.ndim != 2 or codes.shape[1] != len(sizes) or not 1 <= len(sizes) <= MAX_LEVELS:
        raise CatalogueError(f"codes have shape {codes.shape}, not [items, {len(sizes)}] for {len(sizes)} sizes")
    if codes.dtype != np.uint16:
        raise CatalogueError(f"codes are {codes.dtype}, not uint16")
    for level, size in enumerate(sizes):
        largest = int(codes[:, level].max(initial=0))
        if largest >= size:
            raise CatalogueError(f"level {level} has the code {largest}, but only {size} codes")


def _check_items(items: np.ndarray, count: int) -> np.ndarray:
    items = np.asarray(items)
    if items.shape != (count,) or not np.issubdtype(items.dtype, np.integer):
        raise CatalogueError(f"{count} rows of codes need as many item numbers, not {items.dtype}{list(items.shape)}")
    if count and not 0 <= items.min() <= items.max() < np.iinfo(np.int32).max:
        raise CatalogueError(f"item numbers must be from 0 to 2**31 - 2; got {items.min()} to {items.max()}")
    numbers, counts = np.unique(items, return_counts=True)
    if (counts > 1).any():
        raise CatalogueError(f"item {numbers[counts > 1][0]} occurs {counts.max()} times")
    return items.astype(np.int32)
