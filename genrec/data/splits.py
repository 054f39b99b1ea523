"""Cuts each user's history into what trains, validates and tests.

A user's records are prefixes of one sequence, oldest first. The last item of a validation or test record is its target
and all before it is the history that a model may see; a train record is for training as a whole:

    sequence   a b c d e        leave-one-out
    train      a b c            all but the last two
    validation a b c d          target d, history a b c
    test       a b c d e        target e, history a b c d
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence as Seq

import numpy as np

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


def by_user(log: Interactions) -> UserSequences:
    """Sorts the log by user and time; interactions at the same time keep the order of the file."""
    order = np.lexsort((log.timestamps, log.users))  # stable
    counts = np.bincount(log.users, minlength=len(log.user_ids))
    return UserSequences(np.concatenate([[0], np.cumsum(counts)]), log.items[order], log.timestamps[order])


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
    if validation_fraction <= 0 or test_fraction <= 0 or validation_fraction + test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction={validation_fraction} and data.test_fraction={test_fraction} must be above 0 "
            "and leave something to train on."
        )
    times = np.sort(sequences.timestamps)
    first = times[int(len(times) * (1 - validation_fraction - test_fraction))]
    second = times[int(len(times) * (1 - test_fraction))]
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
