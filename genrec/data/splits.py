"""Cuts each user's history into what trains, validates and tests.

A user's records are prefixes of one sequence, oldest first. The last item of a validation or test record is its target
and all before it is the history that a model may see; a train record is for training as a whole:

    sequence   a b c d e        leave-one-out
    train      a b c            all but the last two
    validation a b c d          target d, history a b c
    test       a b c d e        target e, history a b c d
"""

import dataclasses
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq

import numpy as np

from genrec import config as configs
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions

NAMES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class UserSequences:
    """All users' sequences end to end: user u holds `offsets[u]:offsets[u + 1]`, oldest first."""

    offsets: np.ndarray  # int64[users + 1]
    items: np.ndarray  # int64[n]
    timestamps: np.ndarray  # int64[n], never falling within a user

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)  # int64[users]

    @property
    def users(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)  # int64[n]

    def select(self, kept: np.ndarray) -> "UserSequences":
        """The interactions where `kept` (bool[n]) holds; all users stay, some of them without interactions."""
        counts = np.bincount(self.users[kept], minlength=len(self.offsets) - 1)
        return UserSequences(np.concatenate([[0], np.cumsum(counts)]), self.items[kept], self.timestamps[kept])


def by_user(log: Interactions) -> UserSequences:
    """Sorts the log by user and time; interactions at the same time keep the order of the file."""
    order = np.lexsort((log.timestamps, log.users))  # stable
    counts = np.bincount(log.users, minlength=len(log.user_ids))
    return UserSequences(np.concatenate([[0], np.cumsum(counts)]), log.items[order], log.timestamps[order])


def by_config(sequences: UserSequences, config: configs.Data, has_times: bool) -> dict[str, np.ndarray]:
    """The split of the config, as `leave_one_out`; raises `DataError` when it cannot be made or one part is empty."""
    check_config(config, has_times)
    if config.split == "leave_one_out":
        ends = leave_one_out(sequences)
    else:
        ends = temporal(sequences, config.validation_fraction, config.test_fraction)
    refuse_empty({name: np.count_nonzero(lengths) for name, lengths in ends.items()}, config)
    return ends


def check_config(config: configs.Data, has_times: bool) -> None:
    """Raises `DataError` for a split that is unknown, or that needs times which the log does not have."""
    if config.split not in ("leave_one_out", "temporal"):
        raise DataError(f"data.split={config.split!r} is unknown. Choose leave_one_out or temporal.")
    if config.split == "temporal" and not has_times:
        raise DataError("data.split is 'temporal', but the interactions have no timestamp. Use leave_one_out.")


def refuse_empty(records: Mapping[str, int], config: configs.Data) -> None:
    """Raises `DataError` when a split has no records."""
    for name, count in records.items():
        if not count:
            remedy = {
                "leave_one_out": "Leave-one-out needs users with at least 3 interactions; add data or lower the "
                "filters.",
                "temporal": "Add data, or raise data.validation_fraction and data.test_fraction.",
            }[config.split]
            raise DataError(f"The {name} split is empty: no user has interactions for it. {remedy}")


def leave_one_out(sequences: UserSequences) -> dict[str, np.ndarray]:
    """The last item tests, the one before validates, the rest trains.

    Returns:
      For each split the length of each user's record, int64[users], 0 where there is none. Users with fewer than three
      items only train.
    """
    lengths = sequences.lengths
    evaluated = lengths >= 3
    return {
        "train": np.where(evaluated, lengths - 2, lengths),
        "validation": np.where(evaluated, lengths - 1, 0),
        "test": np.where(evaluated, lengths, 0),
    }


def temporal(sequences: UserSequences, validation_fraction: float, test_fraction: float) -> dict[str, np.ndarray]:
    """Two cut times, the same for all users: a model trains on what came before the first, as in production.

    A user's target is the first interaction in a window; the history is everything before it, which for testing
    includes the validation window. Users without a history have no target.

    Args:
      sequences: All users' interactions.
      validation_fraction: Of all interactions, in the window between the cuts.
      test_fraction: Of all interactions, from the second cut on.

    Returns:
      As `leave_one_out`.
    """
    ranks = cut_ranks(len(sequences.timestamps), validation_fraction, test_fraction)
    return windows(sequences, *np.sort(sequences.timestamps)[list(ranks)])


def cut_ranks(interactions: int, validation_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Which times are the two cuts: ranks, from 0, among those of all interactions. `DataError` if they cannot be."""
    if validation_fraction <= 0 or test_fraction <= 0 or validation_fraction + test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction={validation_fraction} and data.test_fraction={test_fraction} must be above 0 "
            "and leave something to train on."
        )
    return int(interactions * (1 - validation_fraction - test_fraction)), int(interactions * (1 - test_fraction))


def windows(sequences: UserSequences, first: int, second: int) -> dict[str, np.ndarray]:
    """The temporal split at two times; as `leave_one_out`."""
    before_first = _count_before(sequences, first)
    before_second = _count_before(sequences, second)
    return {
        "train": before_first,
        "validation": np.where((before_first > 0) & (before_second > before_first), before_first + 1, 0),
        "test": np.where((before_second > 0) & (sequences.lengths > before_second), before_second + 1, 0),
    }


def _count_before(sequences: UserSequences, cut: int) -> np.ndarray:
    """int64[users], interactions of each user that are older than `cut`."""
    cumulative = np.concatenate([[0], np.cumsum(sequences.timestamps < cut)])
    return cumulative[sequences.offsets[1:]] - cumulative[sequences.offsets[:-1]]


Record = tuple[str, Seq[int] | np.ndarray]  # user id, items


def check_no_leak(train: Iterable[Record], validation: Iterable[Record], test: Iterable[Record]) -> None:
    """Raises `DataError` when a record shows what a later one asks for.

    A user's training record must be the beginning of the history (the record without its target) of the user's
    validation and test records, and the validation record the beginning of the test history. Each user has at most one
    record per split.
    """
    records = {name: _by_user(name, split) for name, split in zip(NAMES, (train, validation, test), strict=True)}
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for user, record in records[later].items():
            seen = records[earlier].get(user)
            if seen is None:
                continue
            history = record[: len(record) - 1]
            if len(seen) > len(history) or not np.array_equal(seen, history[: len(seen)]):
                raise DataError(
                    f"user {user!r}: the {earlier} record ({len(seen)} items) is not the beginning of the {later} "
                    f"history ({len(history)} items), so the {later} target leaks. "
                    "Split each user's interactions by time."
                )


def _by_user(name: str, split: Iterable[Record]) -> dict[str, np.ndarray]:
    records: dict[str, np.ndarray] = {}
    for user, items in split:
        if user in records:
            raise DataError(f"user {user!r} has two {name} records. Write one per user.")
        if name != "train" and len(items) < 2:
            raise DataError(f"user {user!r}: the {name} record has no history before its target. Leave it out.")
        records[user] = np.asarray(items)
    return records
