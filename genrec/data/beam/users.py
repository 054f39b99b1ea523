"""Steps of the Beam pipeline on partitions of users: k-core counts, cut times, splits, leak check, TFDS examples."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from genrec.data import filtering, sequence_files, splits, user_index
from genrec.data import survey as surveys
from genrec.data.beam import runner
from genrec.data.beam.log import Partition, Users
from genrec.data.survey import Ranges, Survey

BINS = surveys.BINS


@dataclasses.dataclass(frozen=True)
class Core:
    """The k-core: interactions with the allowed items, of users who have at least k of these."""

    allowed: str  # path of bool[items]
    k: int

    def of(self, partition: Partition) -> Users:
        """Returns the users of a partition with the interactions that k-core keeps."""
        users = Users.read(partition.path)
        sequences = users.sequences
        allowed = runner.load(self.allowed)[sequences.items]
        return users.select(filtering.with_enough(sequences.users, allowed, self.k))


def survey(partition: Partition, core: Core, items: int) -> Survey:
    """Returns the statistics of the k-core in one partition."""
    return Survey.of(core.of(partition).sequences, items)


def pairs(partition: Partition, core: Core) -> tuple[np.ndarray, np.ndarray]:
    """Returns user and item of the interactions that `core` leaves of a partition, where users count from 0."""
    sequences = core.of(partition).sequences
    return sequences.users, sequences.items


def items_of_core(parts: Sequence[tuple[np.ndarray, np.ndarray]], k: int, items: int) -> np.ndarray:
    """Returns bool[items], True for the items of the k-core of all partitions, whose `pairs` are given."""
    starts = np.cumsum([0, *(users.max(initial=-1) + 1 for users, _ in parts)])
    users = np.concatenate([start + users for start, (users, _) in zip(starts, parts, strict=False)])
    chosen = np.concatenate([items_of_part for _, items_of_part in parts])
    return np.bincount(chosen[filtering.k_core(users, chosen, k)], minlength=items) > 0


def histograms(partition: Partition, core: Core, ranges: Ranges) -> np.ndarray:
    """Returns `survey.histograms` of the times of the k-core in one partition."""
    return surveys.histograms(core.of(partition).sequences.timestamps, ranges, BINS)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers per user that are collected in one process."""

    first_rows: np.ndarray  # int64[users], as in `Users`
    hashes: np.ndarray  # uint64[users], `user_index.hashes_of` the user ids
    lengths: np.ndarray  # int64[users], interactions
    ends: dict[str, np.ndarray]  # per split int64[users], length of the user's sequence, 0 where there is none


@dataclasses.dataclass(frozen=True)
class Finished:
    """A partition that is filtered and split; its files are named after `path`."""

    path: str  # of `Users`
    counts: dict[str, int]  # sequences per split

    @property
    def numbers(self) -> str:
        """Path of `Numbers`."""
        return f"{self.path}.numbers"

    @property
    def indices(self) -> str:
        """Path of a dict with int64[users] for each split, the index of each user's sequence."""
        return f"{self.path}.indices"


def finish(partition: Partition, core: Core, new_rows: str, cuts: tuple[int, int] | None) -> Finished:
    """Filters a partition, maps items to rows of the catalogue, splits, checks for leaks, and writes the result.

    Args:
      partition: A partition of the users.
      core: The k-core.
      new_rows: Path of int64[items], an item's row in the catalogue.
      cuts: The two cut times of the temporal split; None for leave-one-out.

    Raises:
      DataError: if a target leaks.
    """
    users = core.of(partition)
    sequences = dataclasses.replace(users.sequences, items=runner.load(new_rows)[users.sequences.items])
    ends = splits.windows(sequences, first=cuts[0], second=cuts[1]) if cuts else splits.leave_one_out(sequences)
    splits.check_prefixes(users.user_ids, ends)
    finished = Finished(f"{partition.path}.finished", splits.counts(ends))
    dataclasses.replace(users, sequences=sequences).write(finished.path)
    hashes = user_index.hashes_of(users.user_ids)
    runner.save(finished.numbers, Numbers(users.first_rows, hashes, sequences.lengths, ends))
    return finished


def examples(finished: Finished, split: str) -> Iterator[tuple[int, dict]]:
    """Yields (index in the split, example) for each sequence of a partition."""
    users = Users.read(finished.path)
    lengths = runner.load(finished.numbers).ends[split]
    indices = runner.load(finished.indices)[split]
    starts, sequences = users.sequences.offsets[:-1], users.sequences
    for user in np.flatnonzero(lengths).tolist():
        own = slice(starts[user], starts[user] + lengths[user])
        yield (
            int(indices[user]),
            sequence_files.example(users.user_ids[user], sequences.items[own], sequences.timestamps[own]),
        )
