"""Lists in a file: read as the array that was written, and an evaluation of them in memory that they do not fill."""

import types

import held_memory
import numpy as np
import pytest

from genrec.evaluation import evaluate, list_checks, metrics, results
from genrec.evaluation.evaluator import FoundLists, item_ranks
from genrec.evaluation.spilled_lists import SpilledLists
from genrec.semantic_ids.codes import SemanticIds

ITEMS, BEAMS, BATCH = 600, 200, 64
LOADED = types.SimpleNamespace(
    params=None,
    semantic_ids=SemanticIds(
        np.stack(np.unravel_index(np.arange(ITEMS), (20, 30)), axis=1).astype(np.uint16), (20, 30)
    ),
)


class Searched:
    """Stands in for an evaluator: random lists, found in an order of the users that is not theirs."""

    beams = BEAMS

    def __init__(self, users: int):
        self.users = users

    def metrics(self, ranks):
        return metrics.compute(ranks, (1, 10))

    def search(self, params):
        places, random = np.random.default_rng(self.users).permutation(self.users), np.random.default_rng(0)
        for start in range(0, self.users, BATCH):
            some = places[start : start + BATCH]
            first = random.integers(0, ITEMS, (len(some), 1))
            yield FoundLists(
                places=some,
                user_ids=[f"u{place:036d}" for place in some],
                targets=some.astype(np.int32) % ITEMS,
                recommended=((first + np.arange(BEAMS)) % ITEMS).astype(np.int32),
                scores=np.tile(-np.arange(BEAMS, dtype=np.float32), (len(some), 1)),
                bounds=-(some % 50).astype(np.float32),
                repeats=np.zeros((len(some), BEAMS), bool),
                target_repeats=some % 3 == 0,
            )


def test_lists_are_read_as_they_were_written():
    random = np.random.default_rng(0)
    lists, expected = SpilledLists(30, 7), random.integers(-1, 2**31, (30, 7)).astype(np.int32)
    places = random.permutation(30)
    for some in np.split(places, [4, 5, 20]):
        lists.write(some, expected[some])
    assert lists.shape == expected.shape and len(lists) == 30
    for part in (slice(None), slice(0, 3), slice(3, 3), slice(25, 99), slice(-2, None)):
        np.testing.assert_array_equal(lists[part], expected[part])
    with pytest.raises(ValueError, match="step"):
        lists[::2]


def test_an_evaluation_of_lists_in_a_file_equals_that_of_all_lists_in_memory():
    searched = evaluate.search(Searched(500), LOADED)
    parts = list(Searched(500).search(None))
    order = np.argsort(np.concatenate([part.places for part in parts]))
    recommended, targets = (
        np.concatenate([getattr(part, name) for part in parts])[order] for name in ("recommended", "targets")
    )
    ranks, found = item_ranks(recommended, targets), searched.evaluation
    assert found.user_ids.to_pylist() == [f"u{place:036d}" for place in range(500)]
    np.testing.assert_array_equal(found.recommended[:], recommended)
    np.testing.assert_array_equal(found.targets, targets)
    np.testing.assert_array_equal(found.ranks, ranks)
    assert found.metrics == metrics.compute(ranks, (1, 10))
    assert searched.certified.tolist() == [1 + place % 50 for place in range(500)]
    groups = list_checks.code_groups(LOADED.semantic_ids)
    in_order = item_ranks(groups[recommended], groups[targets])
    np.testing.assert_array_equal(searched.code_ranks, in_order)
    assert searched.checks.figures()["target_repeats"] == np.mean(np.arange(500) % 3 == 0)


def noted(function, most: held_memory.Peak):
    def wrapped(*given):
        most.note()
        return function(*given)

    return wrapped


def peak(users: int, folder, monkeypatch) -> int:
    """Returns the most bytes that are held while lists of so many users are found and written."""
    with held_memory.traced() as most, monkeypatch.context() as patched:
        for name in ("write", "__getitem__"):
            patched.setattr(SpilledLists, name, noted(getattr(SpilledLists, name), most))
        patched.setattr(results, "USERS_AT_A_TIME", 256)
        found = evaluate.search(Searched(users), LOADED).evaluation
        item_ids = [f"i{item}" for item in range(ITEMS)]
        results.write(folder, "test", found, {}, item_ids, {}, exclude_history=False)
        return most.bytes


def test_memory_does_not_grow_with_users_and_beams(tmp_path, monkeypatch):
    few, many = (peak(users, tmp_path, monkeypatch) for users in (1000, 5000))
    assert many < few + 4000 * 250, (few, many)  # where a list takes 800 bytes, its texts 2,000 and its scores 800
