"""Choosing the best of many keys against a stable sort, with ties, dead keys and both ways to choose."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding import top_k

BATCH = 3
best = jax.jit(top_k.best, static_argnums=1)
at_most = jax.jit(top_k.at_most)
many = functools.partial(settings, deadline=None, derandomize=True)

seeds = st.integers(0, 2**32 - 1)
# From all alike to all different: ties are what can go wrong.
kinds = st.integers(1, 40)
dead_shares = st.sampled_from([0.0, 0.1, 0.9, 1.0])


def random_keys(shape: tuple[int, ...], seed: int, kinds: int, dead: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    keys = random.integers(-kinds, kinds, shape).astype(np.float32)
    keys[random.random(shape) < dead] = -np.inf
    return keys


def by_sorting(keys: np.ndarray, k: int) -> tuple[list[int], float]:
    order = [place for place in np.argsort(-keys, kind="stable").tolist() if keys[place] > -np.inf]
    chosen = sorted(order[:k])
    return chosen + [len(keys)] * (k - len(chosen)), keys[order[k]] if len(order) > k else -np.inf


# (n, k): few keys; k beside n; k beyond it; by chunks, with a last chunk that is not full, and with full ones.
SHAPES = [(1, 1), (9, 4), (9, 8), (9, 9), (9, 12), (700, 4), (512, 3)]


@pytest.mark.parametrize("n, k", SHAPES)
def test_the_best_are_those_of_a_stable_sort(n, k):
    @many(max_examples=40)
    @given(seeds, kinds, dead_shares)
    def check(seed, kinds, dead):
        keys = random_keys((BATCH, n), seed, kinds, dead)
        chosen, rest = best(keys, k)
        expected = [by_sorting(row, k) for row in keys]
        assert chosen.tolist() == [places for places, _ in expected]
        assert rest.tolist() == [left for _, left in expected]

    check()


def test_both_ways_to_choose_are_taken(monkeypatch):
    calls = []
    monkeypatch.setattr(top_k, "_by_chunks", lambda keys, k: calls.append(keys.shape[1]) or top_k._top_k(keys, k))
    for n, k in SHAPES:
        top_k.best(np.zeros((BATCH, n), np.float32), k)
    assert calls == [700, 512]


def test_the_best_of_a_chunk_that_is_last_by_a_tie_are_the_lower_places():
    keys = np.full((1, 512), -1, np.float32)
    keys[0, [100, 260, 261, 511]] = 5
    chosen, rest = best(keys, 3)
    assert chosen.tolist() == [[100, 260, 261]] and rest.tolist() == [5]


@pytest.mark.parametrize("shape", [(BATCH, 30), (BATCH, 6, 5)])
def test_of_each_group_the_best_are_left(shape):
    @many(max_examples=40)
    @given(seeds, kinds, dead_shares, st.integers(1, 6))
    def check(seed, kinds, dead, groups):
        random = np.random.default_rng(seed)
        keys = random_keys(shape, seed, kinds, dead)
        group = random.integers(0, groups, shape[:2]).astype(np.int32)
        most = random.integers(1, 8, BATCH).astype(np.int32)
        left = np.asarray(at_most(keys, group, most))
        for row in range(BATCH):
            flat, expected = keys[row].reshape(-1), np.full(keys[row].size, -np.inf)
            of_key = np.repeat(group[row], flat.size // shape[1])
            for one in range(groups):
                members = np.flatnonzero(of_key == one)
                kept = members[np.argsort(-flat[members], kind="stable")[: most[row]]]
                expected[kept] = flat[kept]
            np.testing.assert_array_equal(left[row].reshape(-1), expected)

    check()
