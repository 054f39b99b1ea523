"""The new-item quota against a direct reading of its definition."""

import numpy as np
import pytest

from genrec.decoding.new_item_quota import merge

IS_NEW = np.arange(12) >= 8  # items 8 to 11


def lists(items, new, share):
    items, new = np.array([items]), np.array([new])
    scores = [-np.arange(n, dtype=np.float32)[None] for n in (items.shape[1], new.shape[1])]
    found, values = merge(items, scores[0], new, scores[1], IS_NEW, share)
    assert (np.isinf(values) == (found < 0)).all()
    return found[0].tolist()


def test_the_example_of_the_docstring():
    assert lists([1, 2, 3, 8], [8, 9, -1, -1], 0.5) == [1, 8, 2, 9]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_first_k_items_meet_the_quota_while_there_are_new_items(share):
    random = np.random.default_rng(0)
    for _ in range(30):
        items = random.permutation(12)[:8]
        new = np.full(8, -1)
        some = random.permutation(np.flatnonzero(IS_NEW))[: random.integers(0, 5)]
        new[: len(some)] = some
        found = lists(items, new, share)
        real = [item for item in found if item >= 0]
        assert len(real) == 8 == len(set(real))
        for k in range(1, 9):
            assert IS_NEW[found[:k]].sum() >= min(int(share * k + 1e-9), len(some))
    if share == 0:
        assert lists([3, 8, 1], [9, 10, 11], share) == [3, 8, 1]


def test_lists_end_when_no_item_is_left():
    assert lists([1, -1, -1], [8, -1, -1], 1.0) == [8, 1, -1]
