"""What workers do with partitions of whole users: count for k-core, find the cut times, split, check, give records."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from genrec import config as configs
from genrec.data import dataset, filtering, splits
from genrec.data.beam import runner
from genrec.data.beam.log import Partition, Users

BINS = 1 << 16  # of the histograms of times


@dataclasses.dataclass(frozen=True)
class Survey:
    """Figures of the interactions that are left, of all or of one partition."""

    popularity: np.ndarray  # int64[items], interactions
    first: int  # time of the oldest
    last: int  # and of the newest

    def merge(self, other: "Survey") -> "Survey":
        return Survey(self.popularity + other.popularity, min(self.first, other.first), max(self.last, other.last))


@dataclasses.dataclass(frozen=True)
class Core:
    """Which interactions k-core keeps: those with these items, of users who have at least k of them."""

    allowed: str  # path of bool[items]
    k: int

    def of(self, partition: Partition) -> Users:
        users = Users.read(partition.path)
        sequences = users.sequences
        allowed = runner.load(self.allowed)[sequences.items]
        return users.select(filtering.with_enough(sequences.users, allowed, self.k))


def survey(partition: Partition, core: Core, items: int) -> Survey:
    """Counts one partition."""
    sequences = core.of(partition).sequences
    times = sequences.timestamps
    limits = np.iinfo(np.int64)
    return Survey(
        np.bincount(sequences.items, minlength=items),
        int(times.min(initial=limits.max)),
        int(times.max(initial=limits.min)),
    )


def histograms(partition: Partition, core: Core, ranges: tuple[tuple[int, int], ...]) -> np.ndarray:
    """int64[ranges, BINS], interactions in bins of time; a range is the start of its first bin and the bins' width."""
    times = core.of(partition).sequences.timestamps
    counts = []
    for start, width in ranges:
        bins = (times - start) // width
        counts.append(np.bincount(bins[(bins >= 0) & (bins < BINS)], minlength=BINS))
    return np.array(counts)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What one machine keeps of each user."""

    first_rows: np.ndarray  # int64[users], as in `Users`
    lengths: np.ndarray  # int64[users], interactions
    ends: dict[str, np.ndarray]  # per split int64[users], length of the user's record, 0 where there is none


@dataclasses.dataclass(frozen=True)
class Finished:
    """A partition that is split; its files are named after `path`."""

    path: str
    records: dict[str, int]  # per split

    @property
    def numbers(self) -> str:  # path of `Numbers`
        return f"{self.path}.numbers"

    @property
    def indices(self) -> str:  # path of {split: int64[users], index of the user's record}
        return f"{self.path}.indices"


def finish(
    partition: Partition, core: Core, new_rows: str, config: configs.Data, cuts: tuple[int, int] | None
) -> Finished:
    """Filters, counts items by the catalogue, splits, checks for leaks, writes.

    Args:
      partition: Of users.
      core: What k-core keeps.
      new_rows: Path of int64[items], an item's row in the catalogue.
      config: Of the stage.
      cuts: The two times of the temporal split.

    Raises:
      DataError: for a leak.
    """
    users = core.of(partition)
    sequences = dataclasses.replace(users.sequences, items=runner.load(new_rows)[users.sequences.items])
    ends = splits.leave_one_out(sequences) if config.split == "leave_one_out" else splits.windows(sequences, *cuts)
    dataset.check_no_leak({name: dataset.records(users.user_ids, sequences, ends[name]) for name in splits.NAMES})
    finished = Finished(f"{partition.path}.finished", {name: np.count_nonzero(ends[name]) for name in splits.NAMES})
    dataclasses.replace(users, sequences=sequences).write(finished.path)
    runner.save(finished.numbers, Numbers(users.first_rows, sequences.lengths, ends))
    return finished


def examples(finished: Finished, split: str) -> Iterator[tuple[int, dict]]:
    """(index in the split, example) of each record of a partition."""
    users = Users.read(finished.path)
    lengths = runner.load(finished.numbers).ends[split]
    indices = runner.load(finished.indices)[split]
    records = dataset.records(users.user_ids, users.sequences, lengths)
    for index, record in zip(indices[lengths > 0].tolist(), records.read(), strict=True):
        yield index, dataset.example(record)
