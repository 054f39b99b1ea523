"""Sequences of all users in two files, which are read in parts of the users; this process holds the offsets alone."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from etils import epath

from genrec.data import filtering
from genrec.data.splits import UserSequences
from genrec.data.survey import Survey


class SpilledSequences:
    """Items and times of users 0, 1, ... one after the other, on disk."""

    def __init__(self, folder: epath.Path, rows: int):
        """Starts without users in `folder`, which is made; `rows` is about how many are read at a time."""
        folder.mkdir(parents=True)
        self._folder, self._rows = folder, rows
        self._ends = [np.zeros(1, np.int64)]
        self._offsets: np.ndarray | None = None

    def append(self, sequences: UserSequences) -> None:
        """Adds users."""
        with (self._folder / "items").open("ab") as items, (self._folder / "times").open("ab") as times:
            items.write(np.ascontiguousarray(sequences.items, np.int32).data)
            times.write(np.ascontiguousarray(sequences.timestamps, np.int64).data)
        self._ends.append(self._ends[-1][-1] + sequences.offsets[1:])
        self._offsets = None

    @property
    def offsets(self) -> np.ndarray:
        """int64[users + 1], as in `UserSequences`."""
        if self._offsets is None:
            self._offsets = np.concatenate(self._ends)
            self._ends = [self._offsets]
        return self._offsets

    @property
    def lengths(self) -> np.ndarray:
        """int64[users]."""
        return np.diff(self.offsets)

    def parts(self) -> Iterator[tuple[int, UserSequences]]:
        """Yields (first user, sequences of it and of the following ones) for all users."""
        offsets = self.offsets
        if not offsets[-1]:
            return
        with (self._folder / "items").open("rb") as items, (self._folder / "times").open("rb") as times:
            start = 0
            while start < len(offsets) - 1:
                end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + self._rows, side="right")) - 1)
                count = int(offsets[end] - offsets[start])
                own = offsets[start : end + 1] - offsets[start]
                yield start, UserSequences(own, _read(items, count, np.int32), _read(times, count, np.int64))
                start = end

    def remove(self) -> None:
        """Removes the files."""
        self._folder.rmtree()


def _read(file: BinaryIO, count: int, kind: type) -> np.ndarray:
    return np.frombuffer(file.read(count * np.dtype(kind).itemsize), kind)


def k_core(
    whole: SpilledSequences, folder: epath.Path, items: int, k: int, rows: int, most_in_memory: int
) -> SpilledSequences:
    """Returns the k-core of sequences, in `folder`, and removes the `whole`; as `filtering.k_core`.

    Args:
      whole: The sequences.
      folder: A folder to be made.
      items: Number of items.
      k: The minimum; 0 and 1 keep everything.
      rows: As in `SpilledSequences`.
      most_in_memory: Interactions that may be held at a time, for a core that takes many rounds.
    """
    if k <= 1:
        return whole
    allowed = np.ones(items, bool)
    number = 0
    while True:
        popularity = np.zeros(items, np.int64)
        for _, part in whole.parts():
            popularity += np.bincount(part.items[_kept(part, allowed, k)], minlength=items)
        still = allowed & (popularity >= k)
        if np.array_equal(still, allowed):
            break
        allowed, number = still, number + 1
        if number >= filtering.ROUNDS and popularity.sum() <= most_in_memory:
            return _in_memory(whole, folder, allowed, k, rows)
    core = SpilledSequences(folder, rows)
    for _, part in whole.parts():
        core.append(part.select(_kept(part, allowed, k)))
    whole.remove()
    return core


def _kept(part: UserSequences, allowed: np.ndarray, k: int) -> np.ndarray:
    return filtering.with_enough(part.users, allowed[part.items], k)


def _in_memory(whole: SpilledSequences, folder: epath.Path, allowed: np.ndarray, k: int, rows: int) -> SpilledSequences:
    """Returns the k-core of sequences of which `allowed` items leave few."""
    users, items = [], []
    for first, part in whole.parts():
        kept = _kept(part, allowed, k)
        users.append(first + part.users[kept])
        items.append(part.items[kept])
    in_core = filtering.k_core(np.concatenate(users), np.concatenate(items), k)
    core, done = SpilledSequences(folder, rows), 0
    for _, part in whole.parts():
        kept = _kept(part, allowed, k)
        count = int(kept.sum())
        kept[kept] = in_core[done : done + count]
        core.append(part.select(kept))
        done += count
    whole.remove()
    return core


def survey(sequences: SpilledSequences, items: int) -> Survey:
    """Returns the statistics of sequences that are not all empty."""
    merged: Survey | None = None
    for _, part in sequences.parts():
        own = Survey.of(part, items)
        merged = own if merged is None else merged.merge(own)
    assert merged is not None
    return merged
