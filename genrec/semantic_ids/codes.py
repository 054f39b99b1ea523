"""Semantic IDs of a catalogue and their token layout, which no other module knows.

 With sizes (256, 256, 256, 7) the vocabulary has 775 tokens: code 3 of
level 0 is token 3, code 3 of level 1 is token 259, and code 3 of the last level, which separates items whose learned
codes are equal, is token 771.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from genrec import artifacts
from genrec.errors import GenrecError
from genrec.files import load_array, read_json, reading, save_array, write_json

KIND = "semantic_ids"
CODES_FILE = "codes.npy"
LAYOUT_FILE = "layout.json"
GENERATIONS_FILE = "generations.npy"
MAX_SIZE = 1 << 16  # codes per level: they are stored as uint16


class SemanticIdError(GenrecError):
    """Invalid semantic IDs, or items to which none can be assigned. The message says what to do."""


class Ancestor(NamedTuple):
    """Fingerprints of the semantic IDs and the dataset of an earlier, smaller catalogue that checkpoints may name."""

    semantic_ids: str
    dataset: str


@dataclasses.dataclass(frozen=True, eq=False)
class SemanticIds:
    """The semantic ID of every item of a catalogue, in catalogue order.

    Raises SemanticIdError if a code is not below the size of its level, or if two items have equal codes.
    """

    codes: np.ndarray  # uint16[items, levels]; the last level separates items whose learned codes collide
    sizes: tuple[int, ...]  # codes per level

    def __post_init__(self) -> None:
        codes, sizes = np.asarray(self.codes), tuple(int(size) for size in self.sizes)
        if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(codes):
            raise SemanticIdError(f"codes of shape {codes.shape} do not fit {len(sizes)} levels of at least one item.")
        if not np.issubdtype(codes.dtype, np.integer) or min(sizes) < 1 or max(sizes) > MAX_SIZE:
            raise SemanticIdError(f"codes must be whole numbers and sizes 1 to {MAX_SIZE}; got {codes.dtype}, {sizes}.")
        outside = np.argwhere((codes < 0) | (codes >= np.array(sizes)))
        if len(outside):
            item, level = outside[0]
            raise SemanticIdError(
                f"item {item} has code {codes[item, level]} at level {level}, which has {sizes[level]} codes. "
                "Learn the semantic IDs again: launch/learn_semantic_ids.py."
            )
        object.__setattr__(self, "codes", np.ascontiguousarray(codes, np.uint16))
        object.__setattr__(self, "sizes", sizes)
        self.codes.setflags(write=False)
        in_order = self.codes[self._order]
        equal = np.flatnonzero((in_order[1:] == in_order[:-1]).all(axis=1))
        if len(equal):
            first, second = self._order[equal[0] : equal[0] + 2]
            raise SemanticIdError(
                f"items {first} and {second} have the same semantic ID {self.codes[first].tolist()}. "
                "Pass the learned codes to `separate_collisions`, which adds a level that separates them."
            )

    @property
    def items(self) -> int:
        return self.codes.shape[0]

    @property
    def levels(self) -> int:
        return self.codes.shape[1]

    @property
    def vocabulary(self) -> int:
        """Number of tokens: the sum of the sizes of all levels."""
        return sum(self.sizes)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """The token of code 0 of each level."""
        return tuple(int(offset) for offset in np.cumsum((0, *self.sizes[:-1])))

    @functools.cached_property
    def fingerprint(self) -> str:
        return artifacts.hash_of(list(self.sizes), self.codes.astype("<u2").tobytes())

    @functools.cached_property
    def _order(self) -> np.ndarray:  # int[items], catalogue rows sorted by their codes
        return np.lexsort(self.codes.T[::-1])

    def tokens(self) -> np.ndarray:
        """Returns int32[items, levels]: `offsets[level] + code`."""
        return self.codes.astype(np.int32) + np.array(self.offsets, np.int32)

    def items_with_prefix(self, prefix: Sequence[int]) -> np.ndarray:
        """Returns int[found]: the catalogue rows, ascending, of the items with this prefix (empty: of all items)."""
        if len(prefix) > self.levels:
            raise SemanticIdError(f"a prefix of {len(prefix)} codes is longer than the {self.levels} levels.")
        low, high = 0, self.items
        for level, code in enumerate(prefix):
            column = self.codes[self._order[low:high], level]
            if not 0 <= code < self.sizes[level]:
                return np.zeros(0, self._order.dtype)
            low, high = (low + int(np.searchsorted(column, code, side=side)) for side in ("left", "right"))
        return np.sort(self._order[low:high])

    def save(self, path: epath.PathLike, ancestors: Sequence[Ancestor] = ()) -> None:
        """Writes codes and layout into the folder `path`; `ancestors` are those they were grown from, latest first."""
        path = epath.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        save_array(path / CODES_FILE, self.codes)
        layout = {"sizes": self.sizes, "fingerprint": self.fingerprint}
        if ancestors:
            layout["ancestors"] = [ancestor._asdict() for ancestor in ancestors]
        write_json(path / LAYOUT_FILE, layout)

    @staticmethod
    def load(path: epath.PathLike) -> "SemanticIds":
        """Reads the folder that `save` wrote; raises ArtifactError if it is missing or damaged."""
        path = epath.Path(path)
        if not (path / LAYOUT_FILE).exists() or not (path / CODES_FILE).exists():
            raise artifacts.ArtifactError(f"{path}: no semantic IDs here. Run launch/learn_semantic_ids.py.")
        layout = read_json(path / LAYOUT_FILE)
        with reading(path / CODES_FILE, f"the codes of {LAYOUT_FILE}"):
            ids = SemanticIds(load_array(path / CODES_FILE), tuple(layout["sizes"]))
        if ids.fingerprint != layout.get("fingerprint"):
            raise artifacts.ArtifactError(
                f"{path}: {CODES_FILE} and {LAYOUT_FILE} do not belong together. Delete the folder and run "
                "launch/learn_semantic_ids.py again."
            )
        return ids


def ancestors(path: epath.PathLike) -> list[Ancestor]:
    """Returns the ancestors of the semantic IDs in the folder `path`; none if they were learned rather than grown."""
    file = epath.Path(path) / LAYOUT_FILE
    layout = read_json(file)
    with reading(file, "the layout of semantic IDs"):
        return [Ancestor(**ancestor) for ancestor in layout.get("ancestors", [])]


def generations(path: epath.PathLike, items: int) -> np.ndarray:
    """Returns int32[items]: the growth step in which each item got its codes; 0 for learned codes."""
    path = epath.Path(path) / GENERATIONS_FILE
    return load_array(path) if path.exists() else np.zeros(items, np.int32)


class FrozenCodebooks(NamedTuple):
    """Encoder and codebooks of new items in a bundle, from `genrec.semantic_ids.frozen`."""

    settings: Mapping[str, Any]  # config.Embeddings, as JSON
    arrays: Mapping[str, np.ndarray]  # what the vectors of new items are made from
    # float32[1, width] -> codes int32[learned levels], squared distances float32[codes of the last learned level]
    quantize: Callable[..., Any]  # of JAX, to be compiled
    width: int


class FreeCodes:
    """The codes of the last level, which separates items of equal learned codes, that are still free."""

    def __init__(self, codes: np.ndarray, sizes: Sequence[int]):
        """`codes` uint16[items, levels] are taken, also those of items that were removed."""
        codes = np.asarray(codes, np.uint16)
        self._sizes, self._columns = tuple(sizes), np.ascontiguousarray(codes[np.lexsort(codes.T[::-1])].T)
        self._taken = dict[tuple[int, ...], set[int]]()  # by learned codes, of those that were asked for

    def _under(self, learned: tuple[int, ...]) -> set[int]:
        """Returns the codes of the last level that are taken under learned codes, to be changed in place."""
        if learned not in self._taken:
            low, high = 0, self._columns.shape[1]  # in the order of codes, those under a prefix are neighbors
            for column, code in zip(self._columns, np.array(learned, np.uint16), strict=False):
                within = column[low:high]
                low, high = low + within.searchsorted(code), low + within.searchsorted(code, side="right")
            self._taken[learned] = set(self._columns[-1, low:high].tolist())
        return self._taken[learned]

    def take(self, learned: Sequence[int], others: Callable[[], Sequence[int]]) -> tuple[tuple[int, ...], bool]:
        """Takes the lowest free code under learned codes; returns all codes of the item, and whether it was moved.

        Where none is free, it moves to the next of `others`: codes of the last learned level, nearest first. Raises
        SemanticIdError if no code is free there.
        """
        *first, nearest = learned

        def candidates() -> Iterator[int]:
            yield nearest
            yield from (code for code in others() if code != nearest)

        for code in candidates():
            prefix = (*first, code)
            used = self._under(prefix)
            free = next((last for last in range(self._sizes[-1]) if last not in used), None)
            if free is not None:
                used.add(free)
                return (*prefix, free), code != nearest
        raise SemanticIdError(
            f"no semantic ID is free under the first codes {first}: the last level has {self._sizes[-1]} codes. "
            "Learn semantic IDs again, with more codes (semantic_ids.codes)."
        )

    def release(self, codes: Sequence[int]) -> None:
        """Makes the codes of an item free that `take` returned."""
        self._under(tuple(codes[:-1])).discard(codes[-1])


def row_numbers(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Returns int64[items]: a number for each different row of integers[items, levels], which are below `sizes`."""
    numbers, different = np.zeros(len(codes), np.int64), 1
    for column, size in zip(codes.T, sizes, strict=True):
        if different * size > np.iinfo(np.int64).max:
            numbers = np.unique(numbers, return_inverse=True)[1]
            different = len(numbers)
        numbers, different = numbers * size + column, different * size
    return numbers


def running_numbers(codes: np.ndarray) -> np.ndarray:
    """Returns int32[items]: how many earlier items have the same codes (integers[items, levels])."""
    order = np.lexsort(np.asarray(codes).T[::-1])  # stable: catalogue order within a group
    in_order = np.asarray(codes)[order]
    position = np.arange(len(order))
    starts = np.r_[True, (in_order[1:] != in_order[:-1]).any(axis=1)]
    group_start = np.maximum.accumulate(np.where(starts, position, 0))
    numbers = np.empty(len(order), np.int32)
    numbers[order] = position - group_start
    return numbers


def separate_collisions(learned_codes: np.ndarray, sizes: Sequence[int], max_group: int) -> SemanticIds:
    """Adds a last level: a running number, in catalogue order, within each group of items with equal learned codes.

    Codes (4, 2), (4, 2), (1, 0) of integers[items, learned levels] become (4, 2, 0), (4, 2, 1), (1, 0, 0). The size of
    the last level is that of the largest group, 2. Raises SemanticIdError if it exceeds `max_group`.
    """
    numbers = running_numbers(learned_codes)
    largest = int(numbers.max()) + 1
    if largest > max_group:
        shared = np.asarray(learned_codes)[numbers.argmax()].tolist()
        raise SemanticIdError(
            f"{largest} items share the learned codes {shared}; semantic_ids.max_group allows {max_group}. "
            "Use more levels or more codes (semantic_ids.codes), or look for items with equal texts."
        )
    return SemanticIds(np.concatenate([learned_codes, numbers[:, None]], axis=1), (*sizes, largest))
