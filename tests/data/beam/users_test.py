"""Steps on partitions of users, without a Beam pipeline: together they count and split as one process does."""

import functools

import numpy as np
import pytest

from genrec.data import filtering, splits
from genrec.data.beam import log, runner
from genrec.data.beam import users as beam_users
from genrec.data.dataset import Sequence

ITEMS = 20


@pytest.fixture
def world(tmp_path):
    """Returns the sequences of all users, and the same in three partitions."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 30)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([np.sort(rng.integers(0, 100_000, length)) for length in lengths])
    sequences = splits.UserSequences(offsets, rng.integers(0, ITEMS, offsets[-1]) ** 2 // ITEMS, times)
    ids = np.array([f"u{user}" for user in range(30)], object)
    users = log.Users(ids, rng.permutation(30), sequences)
    parts = []
    for number in range(3):
        path = str(tmp_path / f"users-{number}")
        users.select(sequences.users % 3 == number).write(path)
        parts.append(log.Partition(path, 0, (), filtering.Passed((), 0, 0.0, 0)))
    return users, parts


def core_of(path, allowed, k):
    runner.save(path / "allowed", allowed)
    return beam_users.Core(str(path / "allowed"), k)


def test_rounds_of_surveys_converge_to_the_k_core(tmp_path, world):
    users, parts = world
    sequences, allowed = users.sequences, np.ones(ITEMS, bool)
    while True:
        surveys = [beam_users.survey(part, core_of(tmp_path, allowed, 4), ITEMS) for part in parts]
        total = functools.reduce(beam_users.Survey.merge, surveys)
        if ((total.popularity >= 4) >= allowed).all():
            break
        allowed &= total.popularity >= 4
    kept = filtering.k_core(sequences.users, sequences.items, 4)
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(total.popularity, np.bincount(sequences.items[kept], minlength=ITEMS))
    assert (total.first, total.last) == (sequences.timestamps[kept].min(), sequences.timestamps[kept].max())


def test_the_rest_of_the_k_core_is_found_in_one_process(tmp_path, world):
    users, parts = world
    core, sequences = core_of(tmp_path, np.ones(ITEMS, bool), 4), users.sequences
    found = beam_users.items_of_core([beam_users.pairs(part, core) for part in parts], 4, ITEMS)
    kept = filtering.k_core(sequences.users, sequences.items, 4)
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(found, np.bincount(sequences.items[kept], minlength=ITEMS) > 0)


def test_histograms_count_each_interaction_in_its_bin(tmp_path, world, monkeypatch):
    monkeypatch.setattr(beam_users, "BINS", 50)
    users, parts = world
    core = core_of(tmp_path, np.ones(ITEMS, bool), 0)
    counts = sum(beam_users.histograms(part, core, ((0, 2000), (40_000, 7))) for part in parts)
    for row, (start, width) in enumerate(((0, 2000), (40_000, 7))):
        expected = np.histogram(users.sequences.timestamps, start + width * np.arange(51) - 0.5)[0]
        np.testing.assert_array_equal(counts[row], expected)


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_finished_partitions_have_the_sequences_of_the_split(tmp_path, world, split):
    users, parts = world
    core, new_rows = core_of(tmp_path, np.ones(ITEMS, bool), 0), tmp_path / "new_rows"
    runner.save(new_rows, np.arange(ITEMS) + 100)
    cuts = (60_000, 80_000)
    whole = users.sequences
    ends = splits.leave_one_out(whole) if split == "leave_one_out" else splits.windows(whole, *cuts)
    for number, part in enumerate(parts):
        finished = beam_users.finish(part, core, str(new_rows), cuts if split == "temporal" else None)
        mine = np.arange(number, 30, 3)
        runner.save(finished.indices, dict.fromkeys(splits.NAMES, mine * 10))
        for name in splits.NAMES:
            found = dict(beam_users.examples(finished, name))
            expected = {user * 10: ends[name][user] for user in mine.tolist() if ends[name][user]}
            assert {index: len(example["items"]) for index, example in found.items()} == expected
            assert finished.counts[name] == len(expected)
            for index, example in found.items():
                start = whole.offsets[index // 10]
                sequence = Sequence(**example)
                assert sequence.user_id == f"u{index // 10}"
                expected_items = whole.items[start : start + len(sequence.items)] + 100
                np.testing.assert_array_equal(sequence.items, expected_items)
