"""Splits are prefixes of a user's sequence, windows are global, and a planted leak is found."""

import contextlib

import held_memory
import numpy as np
import pytest
import sequence_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data import splits, user_index
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions


def random_sequences(seed=0, users=40, n=400, times=1000):
    rng = np.random.default_rng(seed)
    log = Interactions(
        user_ids=np.array([str(u) for u in range(users)], object),
        users=rng.integers(0, users, n),
        items=rng.integers(0, 50, n),
        timestamps=rng.integers(0, times, n),
    )
    return log, splits.by_user(log)


def prefixes(sequences, lengths):
    starts = sequences.offsets[:-1]
    return [(str(u), sequences.items[starts[u] : starts[u] + n].tolist()) for u, n in enumerate(lengths.tolist()) if n]


def times(sequences, user, n):
    return sequences.timestamps[sequences.offsets[user] : sequences.offsets[user] + n]


def test_sequences_are_sorted_and_ties_keep_the_order_of_the_file():
    log = Interactions(
        user_ids=np.array(["a", "b"], object),
        users=np.array([0, 1, 0, 0, 0]),
        items=np.array([5, 6, 7, 8, 9]),
        timestamps=np.array([2, 0, 1, 2, 1]),
    )
    sequences = splits.by_user(log)
    assert sequences.offsets.tolist() == [0, 4, 5]
    assert sequences.items.tolist() == [7, 9, 5, 8, 6]
    assert sequences.timestamps.tolist() == [1, 1, 2, 2, 0]


def test_leave_one_out():
    sequences = splits.UserSequences(np.array([0, 5, 7, 10]), np.arange(10), np.arange(10))
    ends = splits.leave_one_out(sequences)
    assert ends["train"].tolist() == [3, 2, 1]  # the second user has too few items to be evaluated
    assert ends["validation"].tolist() == [4, 0, 2]
    assert ends["test"].tolist() == [5, 0, 3]


def test_temporal_windows_are_global():
    log, sequences = random_sequences()
    ends = splits.temporal(sequences, 0.2, 0.1)
    loaded = np.concatenate([times(sequences, u, n) for u, n in enumerate(ends["train"])])
    validated = np.array([times(sequences, u, n)[-1] for u, n in enumerate(ends["validation"]) if n])
    tested = np.array([times(sequences, u, n)[-1] for u, n in enumerate(ends["test"]) if n])
    assert loaded.max() < validated.min() and validated.max() < tested.min()
    assert abs(len(loaded) / len(log) - 0.7) < 0.02
    for user, n in enumerate(ends["test"]):
        if n:  # the target is the user's first in the window, so all before it is older than the window
            assert (times(sequences, user, n - 1) < tested.min()).all()


def test_users_without_history_have_no_target():
    sequences = splits.UserSequences(np.array([0, 8, 10]), np.arange(10), np.array([*range(8), 8, 9]))
    ends = splits.temporal(sequences, 0.2, 0.2)
    assert ends["test"].tolist() == [0, 0]
    assert ends["validation"].tolist() == [7, 0]


@pytest.mark.parametrize(("validation", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5)])
def test_fractions_must_be_positive_and_below_1_together(validation, test):
    with pytest.raises(DataError, match="data.validation_fraction"):
        splits.temporal(random_sequences()[1], validation, test)


@pytest.mark.parametrize(("validation", "test"), [(0.01, 0.01), (0.001, 0.5)])
def test_fractions_that_give_a_part_no_interaction_are_named(validation, test):
    sequences = splits.UserSequences(np.array([0, 15]), np.arange(15), np.arange(15))
    with pytest.raises(DataError, match="of 15 interactions, data.validation_fraction=.*without one"):
        splits.temporal(sequences, validation, test)
    with pytest.raises(DataError, match="of 1 interactions"):
        splits.cut_ranks(1, validation, test)


@pytest.mark.parametrize("split", [splits.leave_one_out, lambda s: splits.temporal(s, 0.2, 0.2)])
def test_splits_do_not_leak(split):
    for seed in range(5):
        _, sequences = random_sequences(seed)
        ends = split(sequences)
        check_no_leak(*(prefixes(sequences, ends[name]) for name in splits.NAMES))


def check_no_leak(*parts):
    splits.check_no_leak(dict(zip(splits.NAMES, map(sequence_blocks.blocks, parts), strict=True)))


def plant(name, change):
    """Returns leave-one-out splits of random users, with the sequence of one of them changed in the split `name`."""
    _, sequences = random_sequences(1)
    ends = splits.leave_one_out(sequences)
    parts = {key: prefixes(sequences, ends[key]) for key in splits.NAMES}
    user = next(u for u, items in parts["test"] if len(items) > 5)
    target = dict(parts["test"])[user][-1]
    parts[name] = [(u, change(items, target) if u == user else items) for u, items in parts[name]]
    return user, [parts[key] for key in splits.NAMES]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train", lambda items, target: [*items, target]),  # the test item at the end of the training history
        ("train", lambda items, target: [target, *items[1:]]),  # or anywhere in it
        ("validation", lambda items, target: [*items, target]),
        ("test", lambda items, target: [*items[:-2], target]),  # the test history lacks what was trained on
        ("test", lambda items, target: [target]),  # no history at all
    ],
)
def test_a_planted_leak_is_found(name, change):
    user, parts = plant(name, change)
    with pytest.raises(DataError, match=f"user '{user}'"):
        check_no_leak(*parts)


def test_two_sequences_of_a_user_are_found():
    train = [("u", [1, 2]), ("u", [1])]
    with pytest.raises(DataError, match="'u'.*train"):
        check_no_leak(train, [], [])


def test_equal_hashes_of_users_are_no_leak_and_no_repeated_user(monkeypatch):
    monkeypatch.setattr(
        user_index, "hashes_of", lambda users: np.array([int(user[1:]) % 3 for user in users], np.uint64)
    )
    train = [(f"u{n}", [n, n]) for n in range(20)]
    test = [(user, [*items, 0, 0]) for user, items in train]
    validation = [(user, items[:-1]) for user, items in test]
    check_no_leak(train, validation[::-1], test)
    with pytest.raises(DataError, match="'u7'.*train"):
        check_no_leak([*train, ("u7", [7])], [], [])
    with pytest.raises(DataError, match="'u8'.*validation"):
        check_no_leak(train, validation, [("u8", [8, 8, 1, 0])])


def leak_check_peak(users):
    """Returns the most bytes that are held while splits of so many users, made as they are read, are checked."""

    class Split:
        def __init__(self, length):
            self.length = length

        def __iter__(self):
            for start in range(0, users, 250):
                items = [np.arange(user, user + self.length) for user in range(start, start + 250)]
                yield sequence_blocks.block([(f"{one[0]:036d}", one) for one in items])
                most.note()

    with held_memory.traced() as most:
        splits.check_no_leak({name: Split(20 + n) for n, name in enumerate(splits.NAMES)})
        return most.bytes


def test_memory_of_the_check_for_leaks_is_three_numbers_of_each_sequence():
    few, many = map(leak_check_peak, (1000, 5000))
    assert many < few + 4000 * 3 * 40, (few, many)  # where an id takes 85 bytes, and a sequence 270


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 2), min_size=1, max_size=5)), max_size=20))
def test_exactly_what_is_no_prefix_of_a_history_is_a_leak(sequences):
    """Against the rule, one user after the other."""
    cut = len(sequences) // 2
    train = {f"u{user}": items for user, items in sequences[:cut]}
    test = {f"u{user}": [*items, 0] for user, items in sequences[cut:]}
    leak = any(user in train and items[:-1][: len(train[user])] != train[user] for user, items in test.items())
    with pytest.raises(DataError, match="leaks") if leak else contextlib.nullcontext():
        check_no_leak(train.items(), [], test.items())


def test_fractions_cut_exactly():
    """1 - 0.1 - 0.8 is 0.09999999999999998 in floating-point numbers."""
    assert splits.cut_ranks(100, 0.1, 0.8) == (10, 20)
    assert splits.cut_ranks(1000, 0.29, 0.42) == (290, 580)
