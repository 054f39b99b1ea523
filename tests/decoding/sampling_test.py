"""One level of sampling without replacement: the perturbed scores of children, and the nucleus by brute force."""

import functools

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding.sampling import PerturbedScores, Sampling, gumbel_noise, perturb

BATCH, BEAMS, CHILDREN = 3, 4, 7
many = functools.partial(settings, deadline=None, derandomize=True, max_examples=60)
seeds = st.integers(0, 2**31 - 1)
temperatures = st.sampled_from([0.05, 0.7, 1.0, 3.0])


@functools.partial(jax.jit, static_argnames="level")
def perturbed_of(
    parents: PerturbedScores, scores: np.ndarray, parent_scores: np.ndarray, level: int, how: Sampling
) -> PerturbedScores:
    return perturb(parents, scores, parent_scores, gumbel_noise(how.seeds, level, scores.shape[1:]), how)


def beams_of(seed: int, dead: float) -> tuple[PerturbedScores, np.ndarray, np.ndarray]:
    """Parents with noise, some of them dead; children's scores, some of them none; and the parents' scores."""
    random = np.random.default_rng(seed)
    parent_scores = random.normal(-3, 1, (BATCH, BEAMS)).astype(np.float32)
    parent_scores[random.random(parent_scores.shape) < dead] = -np.inf
    scores = parent_scores[..., None] - random.exponential(2, (BATCH, BEAMS, CHILDREN)).astype(np.float32)
    scores[random.random(scores.shape) < dead] = -np.inf
    own = np.where(parent_scores > -np.inf, random.normal(-2, 1, parent_scores.shape), -np.inf).astype(np.float32)
    noisy = (own + random.gumbel(size=own.shape)).astype(np.float32)
    return PerturbedScores(own, noisy), scores, parent_scores


def how(temperature: float, top_p: float | None, seeds: np.ndarray) -> Sampling:
    shares = None if top_p is None else np.full(BATCH, top_p, np.float32)
    return Sampling(np.full(BATCH, temperature, np.float32), shares, seeds.astype(np.int32))


def log_shares(scores: np.ndarray, parent: float, temperature: float, top_p: float) -> np.ndarray:
    """Of the children of one parent, in float64; -inf outside the nucleus."""
    weights = np.exp((scores.astype(np.float64) - parent) / temperature)
    shares, nucleus, so_far = weights / weights.sum(), np.zeros(len(scores)), 0.0
    for child in np.argsort(-shares, kind="stable"):
        if so_far < top_p:
            nucleus[child] = shares[child]
        so_far += shares[child]
    with np.errstate(divide="ignore"):
        return np.log(nucleus / nucleus.sum())


@many()
@given(seeds, st.sampled_from([0.0, 0.3, 0.9]), temperatures)
def test_the_largest_child_has_the_perturbed_score_of_its_parent(seed, dead, temperature):
    parents, scores, parent_scores = beams_of(seed, dead)
    row_seeds = np.random.default_rng(seed).integers(0, 2**31, BATCH)
    children = perturbed_of(parents, scores, parent_scores, 1, how(temperature, None, row_seeds))
    perturbed, own = np.asarray(children.with_noise), np.asarray(children.log_probabilities)
    assert not np.isnan(perturbed).any()
    none = np.isinf(scores)
    assert (perturbed[none] == -np.inf).all() and (own[none] == -np.inf).all()
    assert np.isfinite(perturbed[~none]).all()
    some = ~none.all(axis=-1)
    np.testing.assert_array_equal(perturbed.max(axis=-1)[some], parents.with_noise[some])
    for row, beam in zip(*np.nonzero(some), strict=True):
        expected = log_shares(scores[row, beam], parent_scores[row, beam], temperature, np.inf)
        expected += parents.log_probabilities[row, beam]
        np.testing.assert_allclose(own[row, beam], expected, rtol=1e-4, atol=1e-4)


@many()
@given(seeds, temperatures, st.sampled_from([0.01, 0.23, 0.61, 0.97, 1.0]))
def test_the_nucleus_is_the_most_likely_children_that_reach_top_p(seed, temperature, top_p):
    parents, scores, parent_scores = beams_of(seed, 0.2)
    children = perturbed_of(parents, scores, parent_scores, 1, how(temperature, top_p, np.arange(BATCH)))
    for row, beam in np.ndindex(BATCH, BEAMS):
        if np.isinf(scores[row, beam]).all():
            assert np.isinf(children.with_noise[row, beam]).all()
            continue
        expected = log_shares(scores[row, beam], parent_scores[row, beam], temperature, top_p)
        inside = expected > -np.inf
        if top_p < 1:  # at 1 rounding may leave out the least likely
            np.testing.assert_array_equal(np.isfinite(children.with_noise[row, beam]), inside)
            own = np.asarray(children.log_probabilities)[row, beam] - parents.log_probabilities[row, beam]
            np.testing.assert_allclose(own[inside], expected[inside], rtol=1e-3, atol=1e-4)


def test_of_equal_children_the_first_make_the_nucleus():
    scores = np.full((BATCH, BEAMS, CHILDREN), -3, np.float32)
    zeros = np.zeros((BATCH, BEAMS), np.float32)
    children = perturbed_of(PerturbedScores(zeros, zeros), scores, zeros, 1, how(1.0, 0.4, np.arange(BATCH)))
    assert (np.isfinite(children.with_noise) == (np.arange(CHILDREN) < 3)).all()


def test_noise_depends_on_the_seed_of_the_row_and_the_level_only():
    parents, scores, parent_scores = (jax.tree.map(lambda x: np.repeat(x[:1], BATCH, 0), x) for x in beams_of(0, 0.0))
    one, other, again = np.asarray(
        perturbed_of(parents, scores, parent_scores, 1, how(1.0, None, np.array([5, 6, 5]))).with_noise
    )
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    below = perturbed_of(parents, scores, parent_scores, 2, how(1.0, None, np.array([5, 6, 5]))).with_noise
    assert not np.allclose(one, below[0])


def test_conditioned_noise_is_distributed_as_independent_noise():
    """The second largest of two children, given the largest, against independent Gumbel noise of the same shares."""
    rows, shares = 40_000, np.log(np.array([0.7, 0.3], np.float32))
    random = np.random.default_rng(0)
    largest = random.gumbel(size=(rows, 1)).astype(np.float32)  # of shares that sum to 1
    sample = Sampling(np.ones(rows, np.float32), None, np.arange(rows, dtype=np.int32))
    zeros = np.zeros((rows, 1), np.float32)
    scores = np.broadcast_to(shares, (rows, 1, 2))
    found = np.sort(
        np.asarray(perturbed_of(PerturbedScores(zeros, largest), scores, zeros, 0, sample).with_noise)[:, 0], axis=0
    )
    expected = np.sort(shares + random.gumbel(size=(rows, 2)), axis=0)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        np.testing.assert_allclose(found[int(share * rows)], expected[int(share * rows)], atol=0.06)
