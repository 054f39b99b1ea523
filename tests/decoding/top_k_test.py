"""Top-k against a stable sort, with ties and scores of -inf, with and without chunks."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding import top_k

BATCH = 3
best = jax.jit(top_k.top_k, static_argnums=1)
limit_per_group = jax.jit(top_k.limit_per_group)
many = functools.partial(settings, deadline=None, derandomize=True)

seeds = st.integers(0, 2**32 - 1)
# Number of different scores: few make many ties.
kinds = st.integers(1, 40)
dead_shares = st.sampled_from([0.0, 0.1, 0.9, 1.0])


def random_scores(shape: tuple[int, ...], seed: int, kinds: int, dead: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    scores = random.integers(-kinds, kinds, shape).astype(np.float32)
    scores[random.random(shape) < dead] = -np.inf
    return scores


def by_sorting(scores: np.ndarray, k: int) -> tuple[list[int], float]:
    order = [place for place in np.argsort(-scores, kind="stable").tolist() if scores[place] > -np.inf]
    chosen = sorted(order[:k])
    return chosen + [len(scores)] * (k - len(chosen)), scores[order[k]] if len(order) > k else -np.inf


# (n, k): few scores; k near n; k above n; chunks, the last of which is partly filled or full.
SHAPES = [(1, 1), (9, 4), (9, 8), (9, 9), (9, 12), (700, 4), (512, 3)]


@pytest.mark.parametrize("n, k", SHAPES)
def test_top_k_equals_a_stable_sort(n, k):
    @many(max_examples=40)
    @given(seeds, kinds, dead_shares)
    def check(seed, kinds, dead):
        scores = random_scores((BATCH, n), seed, kinds, dead)
        chosen, rest = best(scores, k)
        expected = [by_sorting(row, k) for row in scores]
        assert chosen.tolist() == [places for places, _ in expected]
        assert rest.tolist() == [left for _, left in expected]

    check()


def test_chunks_are_used_for_many_scores(monkeypatch):
    calls = []
    monkeypatch.setattr(top_k, "_by_chunks", lambda scores, k: calls.append(scores.shape[1]) or top_k._top_k(scores, k))
    for n, k in SHAPES:
        top_k.top_k(np.zeros((BATCH, n), np.float32), k)
    assert calls == [700, 512]


def test_of_tied_chunks_the_lower_places_are_chosen():
    scores = np.full((1, 512), -1, np.float32)
    scores[0, [100, 260, 261, 511]] = 5
    chosen, rest = best(scores, 3)
    assert chosen.tolist() == [[100, 260, 261]] and rest.tolist() == [5]


@pytest.mark.parametrize("shape", [(BATCH, 30), (BATCH, 6, 5)])
def test_the_best_of_each_group_are_left(shape):
    @many(max_examples=40)
    @given(seeds, kinds, dead_shares, st.integers(1, 6))
    def check(seed, kinds, dead, groups):
        random = np.random.default_rng(seed)
        scores = random_scores(shape, seed, kinds, dead)
        group = random.integers(0, groups, shape[:2]).astype(np.int32)
        most = random.integers(1, 8, BATCH).astype(np.int32)
        left = np.asarray(limit_per_group(scores, group, most))
        for row in range(BATCH):
            flat, expected = scores[row].reshape(-1), np.full(scores[row].size, -np.inf)
            of_score = np.repeat(group[row], flat.size // shape[1])
            for one in range(groups):
                members = np.flatnonzero(of_score == one)
                kept = members[np.argsort(-flat[members], kind="stable")[: most[row]]]
                expected[kept] = flat[kept]
            np.testing.assert_array_equal(left[row].reshape(-1), expected)

    check()
