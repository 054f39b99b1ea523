"""Splits of each user's sequence for training, validation and test: leave-one-out, or at two global cut times.

In every split a user's sequence is a prefix of the whole, oldest first. In validation and test its last item is the
target, and all before it the history that the model gets; in training every item is a target:

    sequence   a b c d e        leave-one-out
    train      a b c            all but the last two
    validation a b c d          target d, history a b c
    test       a b c d e        target e, history a b c d
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec import config as configs
from genrec import shares
from genrec.data import user_index
from genrec.data.errors import DataError
from genrec.data.hashing import mixed
from genrec.data.interactions import Interactions
from genrec.errors import shown

NAMES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class UserSequences:
    """Concatenated sequences of all users: user u has `offsets[u]:offsets[u + 1]`, oldest first."""

    offsets: np.ndarray  # int64[users + 1]
    items: np.ndarray  # int64[n]
    timestamps: np.ndarray  # int64[n], never falling within a user: microseconds since 1970, or the order

    @property
    def lengths(self) -> np.ndarray:
        """int64[users], items of each user."""
        return np.diff(self.offsets)

    @property
    def users(self) -> np.ndarray:
        """int64[n], the user of each interaction."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    @property
    def pairs(self) -> int:
        """Number of different pairs of user and item."""
        if not len(self.items):
            return 0
        numbers = np.sort(self.users * (int(self.items.max()) + 1) + self.items)  # np.unique takes ten times as long
        return 1 + int(np.count_nonzero(np.diff(numbers)))

    @property
    def ties(self) -> int:
        """Number of interactions at the same time as another of their user, whose order is that of the file."""
        same = (np.diff(self.timestamps) == 0) & (np.diff(self.users) == 0)
        return int(np.count_nonzero(np.append(same, False) | np.insert(same, 0, False))) if len(self.items) else 0

    def select(self, kept: np.ndarray) -> "UserSequences":
        """Returns the interactions where `kept` (bool[n]) is True; all users stay, some without interactions."""
        counts = np.bincount(self.users[kept], minlength=len(self.offsets) - 1)
        return UserSequences(np.concatenate([[0], np.cumsum(counts)]), self.items[kept], self.timestamps[kept])


class SequenceBlock(NamedTuple):
    """Items of the sequences of some users, one after the other."""

    user_ids: pa.Array  # string[users]
    offsets: np.ndarray  # int64[users + 1]; user u has items[offsets[u] : offsets[u + 1]]
    items: np.ndarray  # int32[n], catalogue rows


def by_user(log: Interactions) -> UserSequences:
    """Returns the log sorted by user and time; interactions at the same time keep the order of the file."""
    order = np.lexsort((log.timestamps, log.users))  # stable
    counts = np.bincount(log.users, minlength=len(log.user_ids))
    return UserSequences(np.concatenate([[0], np.cumsum(counts)]), log.items[order], log.timestamps[order])


def by_config(sequences: UserSequences, config: configs.Data, has_times: bool) -> dict[str, np.ndarray]:
    """Returns the split of the config, as `leave_one_out`; raises `DataError` if it cannot be made, or is empty."""
    check_config(config, has_times)
    if config.split == "leave_one_out":
        ends = leave_one_out(sequences)
    else:
        ends = temporal(sequences, config.validation_fraction, config.test_fraction)
    refuse_empty(counts(ends), config)
    return ends


def counts(ends: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns the number of sequences of each split, whose `ends` are as `leave_one_out` returns them."""
    return {name: int(np.count_nonzero(lengths)) for name, lengths in ends.items()}


def check_config(config: configs.Data, has_times: bool) -> None:
    """Raises `DataError` if the split needs timestamps that the log does not have."""
    if config.split == "temporal" and not has_times:
        raise DataError("data.split is 'temporal', but the interactions have no timestamp. Use leave_one_out.")


def refuse_empty(sequences: Mapping[str, int], config: configs.Data) -> None:
    """Raises `DataError` if a split has no sequences (their number by split)."""
    for name, count in sequences.items():
        if not count:
            remedy = {
                "leave_one_out": "Leave-one-out needs users with at least 3 interactions; add data or lower the "
                "filters.",
                "temporal": "Add data, or raise data.validation_fraction and data.test_fraction.",
            }[config.split]
            raise DataError(f"The {name} split is empty: no user has interactions for it. {remedy}")


def leave_one_out(sequences: UserSequences) -> dict[str, np.ndarray]:
    """Splits off the last item of each user for test and the one before it for validation.

    Returns:
      For each split int64[users], the length of each user's sequence, 0 where there is none. Users with fewer than
      three items are in the training split only.
    """
    lengths = sequences.lengths
    evaluated = lengths >= 3
    return {
        "train": np.where(evaluated, lengths - 2, lengths),
        "validation": np.where(evaluated, lengths - 1, 0),
        "test": np.where(evaluated, lengths, 0),
    }


def temporal(sequences: UserSequences, validation_fraction: float, test_fraction: float) -> dict[str, np.ndarray]:
    """Splits at two cut times, the same for all users: as in production, training data is older than all targets.

    A user's target is the first interaction in a window; the history is everything before it, which for test includes
    the validation window. Users without a history have no target.

    Args:
      sequences: All users' interactions.
      validation_fraction: Share of the interactions in the window between the cuts.
      test_fraction: Share of the interactions from the second cut on.

    Returns:
      As `leave_one_out`.

    Raises:
      DataError: if the fractions cannot be cut, or the times are too few to be cut.
    """
    first, second = cut_ranks(len(sequences.timestamps), validation_fraction, test_fraction)
    times = np.sort(sequences.timestamps)
    refuse_equal_cuts(int(times[0]), int(times[first]), int(times[second]))
    return windows(sequences, int(times[first]), int(times[second]))


def cut_ranks(interactions: int, validation_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Returns the ranks, from 0, of the two cut times among the sorted times of all interactions.

    Raises DataError if a fraction is not positive, if their sum is 1 or more, or if a part would have no interaction.
    """
    if validation_fraction <= 0 or test_fraction <= 0 or validation_fraction + test_fraction >= 1:
        raise DataError(
            "data.validation_fraction and data.test_fraction must be above 0 and below 1 together, "
            f"got {validation_fraction} and {test_fraction}."
        )
    before_first = 1 - shares.exact(validation_fraction) - shares.exact(test_fraction)
    first, second = (math.floor(interactions * share) for share in (before_first, 1 - shares.exact(test_fraction)))
    if not 0 < first < second < interactions:
        raise DataError(
            f"data.split is 'temporal', but of {interactions:,} interactions, data.validation_fraction="
            f"{validation_fraction} or data.test_fraction={test_fraction} leaves a part without one. Change them."
        )
    return first, second


def refuse_equal_cuts(earliest: int, first: int, second: int) -> None:
    """Raises DataError unless some interactions are before the first cut time, and some between it and the second."""
    if not earliest < first < second:
        raise DataError(
            "data.split is 'temporal', but too many interactions are at the same time to cut the log there, as where "
            "times are days and the log has few. Write times with the time of day, or use data.split=leave_one_out."
        )


def windows(sequences: UserSequences, first: int, second: int) -> dict[str, np.ndarray]:
    """Returns the temporal split at two cut times, as `leave_one_out`."""
    before_first = _count_before(sequences, first)
    before_second = _count_before(sequences, second)
    return {
        "train": before_first,
        "validation": np.where((before_first > 0) & (before_second > before_first), before_first + 1, 0),
        "test": np.where((before_second > 0) & (sequences.lengths > before_second), before_second + 1, 0),
    }


def _count_before(sequences: UserSequences, cut: int) -> np.ndarray:
    """Returns int64[users], the interactions of each user that are older than `cut`."""
    cumulative = np.concatenate([[0], np.cumsum(sequences.timestamps < cut)])
    return cumulative[sequences.offsets[1:]] - cumulative[sequences.offsets[:-1]]


def check_prefixes(user_ids: Seq[str] | np.ndarray, ends: Mapping[str, np.ndarray]) -> None:
    """Applies the rules of `check_no_leak` to splits of prefixes of the same sequences, without reading these.

    `ends` is as `leave_one_out` returns it, one number per user id. Raises DataError for the first user of a leak.
    """
    for name in NAMES[1:]:
        for user in np.flatnonzero(ends[name] == 1)[:1]:
            raise _no_history(str(user_ids[user]), name)
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for user in np.flatnonzero((ends[later] > 0) & (ends[earlier] > ends[later] - 1))[:1]:
            raise _leak(str(user_ids[user]), (earlier, int(ends[earlier][user])), (later, int(ends[later][user]) - 1))


def check_no_leak(splits: Mapping[str, Iterable[SequenceBlock]]) -> None:
    """Raises `DataError` if a sequence contains the target of a later split.

    A user's training sequence must be a prefix of the validation and test histories (the sequences without their
    targets), and the validation sequence a prefix of the test history. A split has at most one sequence per user.

    `splits` are those of NAMES, in order, with their users in any order. They are iterated again where something may be
    wrong. Three numbers of each sequence are held: what hashes say is wrong is looked up before an error is raised.
    """
    seen: dict[str, _Hashed] = {}
    for name, split in splits.items():
        parts = []
        for block in map(_Hashing.of, split):
            if name != NAMES[0]:
                for user in np.flatnonzero(block.lengths < 2)[:1]:
                    raise _no_history(block.user_ids[user].as_py(), name)
            for earlier, known in seen.items():
                for user in block.suspects(known):
                    _refuse_leak(block, user, (earlier, splits[earlier]), name)
            parts.append(block.hashed())
        seen[name] = _Hashed.of(parts)
        _refuse_repeated(name, split, seen[name].repeated)


class _Hashed(NamedTuple):
    """Sequences of a split by hashes, those of user ids ascending."""

    users: np.ndarray  # uint64[sequences]
    lengths: np.ndarray  # int64[sequences]
    items: np.ndarray  # uint64[sequences], hashes of all items at their positions

    @staticmethod
    def of(parts: Seq["_Hashed"]) -> "_Hashed":
        nothing = _Hashed(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint64))
        users, lengths, items = (np.concatenate(columns) for columns in zip(nothing, *parts, strict=True))
        order = np.argsort(users, kind="stable")
        return _Hashed(users[order], lengths[order], items[order])

    @property
    def repeated(self) -> np.ndarray:
        """uint64[n], the hashes of users who may be in the split more than once."""
        return np.unique(self.users[1:][self.users[1:] == self.users[:-1]])


class _Hashing(NamedTuple):
    """Some sequences of a split, with hashes."""

    user_ids: pa.Array  # string[sequences]
    users: np.ndarray  # uint64[sequences], `user_index.hashes_of` the ids
    offsets: np.ndarray  # int64[sequences + 1]
    items: np.ndarray  # int32[n], one sequence after the other
    sums: np.ndarray  # uint64[n + 1], cumulated hashes of the items at their positions

    @staticmethod
    def of(block: SequenceBlock) -> "_Hashing":
        positions = np.arange(len(block.items)) - np.repeat(block.offsets[:-1], np.diff(block.offsets))
        hashes = mixed(mixed(block.items.astype(np.uint64)) + positions.astype(np.uint64))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
        return _Hashing(block.user_ids, user_index.hashes_of(block.user_ids.to_pylist()), *block[1:], sums)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def hashed(self) -> _Hashed:
        return _Hashed(self.users, self.lengths, self.sums[self.offsets[1:]] - self.sums[self.offsets[:-1]])

    def suspects(self, known: _Hashed) -> np.ndarray:
        """Returns int[n], the sequences whose histories do not begin with the earlier sequence of an equal hash."""
        if not len(known.users):
            return np.zeros(0, np.int64)
        place = np.minimum(np.searchsorted(known.users, self.users), len(known.users) - 1)
        lengths, history = known.lengths[place], self.lengths - 1
        starts = self.offsets[:-1]
        begins = self.sums[starts + np.minimum(lengths, history)] - self.sums[starts] == known.items[place]
        return np.flatnonzero((known.users[place] == self.users) & ~((lengths <= history) & begins))


def _refuse_leak(block: _Hashing, number: int, earlier: tuple[str, Iterable[SequenceBlock]], later: str) -> None:
    """Raises DataError if the earlier sequence of a user is no prefix of the history of sequence `number`."""
    user, history = block.user_ids[number].as_py(), block.items[block.offsets[number] : block.offsets[number + 1] - 1]
    for user_ids, offsets, items in earlier[1]:
        for place in np.flatnonzero(pc.equal(user_ids, user)):
            seen = items[offsets[place] : offsets[place + 1]]
            if not np.array_equal(seen, history[: len(seen)]):
                raise _leak(user, (earlier[0], len(seen)), (later, len(history)))


def _refuse_repeated(name: str, split: Iterable[SequenceBlock], hashes: np.ndarray) -> None:
    """Raises DataError if a user whose id has one of the hashes uint64[n] is in a split twice."""
    found: set[str] = set()
    for block in split if len(hashes) else ():
        user_ids = block.user_ids.to_pylist()
        for number in np.flatnonzero(np.isin(user_index.hashes_of(user_ids), hashes)):
            if user_ids[number] in found:
                raise DataError(f"user {shown(user_ids[number])} has two {name} sequences. Write one per user.")
            found.add(user_ids[number])


def _leak(user: str, earlier: tuple[str, int], later: tuple[str, int]) -> DataError:
    return DataError(
        f"user {shown(user)}: the {earlier[0]} sequence ({earlier[1]} items) is not a prefix of the {later[0]} "
        f"history ({later[1]} items), so the {later[0]} target leaks. Split each user's interactions by time."
    )


def _no_history(user: str, name: str) -> DataError:
    return DataError(f"user {shown(user)}: the {name} sequence has no history before its target. Leave it out.")
