"""Beam search against brute force over all items, and a plain search with lists, on a toy decoder with a cache."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec.decoding.beam_search import beam_search
from genrec.decoding.catalogue_index import CatalogueIndex

BATCH = 3


class ToyDecoder:
    """Logits depend on the user and, through the cache alone, on *all* codes so far: a wrong reordering shows."""

    def __init__(self, sizes: tuple[int, ...], seed: int = 0):
        rng = np.random.default_rng(seed)
        self.sizes = sizes
        self.start = rng.normal(size=(BATCH, 8)).astype(np.float32)
        self.embeddings = [rng.normal(size=(size, 8)).astype(np.float32) for size in sizes]
        self.outputs = [rng.normal(size=(8, size)).astype(np.float32) for size in sizes]
        self.mix = rng.normal(size=(8, 8)).astype(np.float32) * 0.5

    def step(self, codes, level, cache):
        if level == 0:
            hidden = jnp.asarray(self.start)[:, None]
        else:
            hidden = jnp.tanh(cache["hidden"] @ self.mix + jnp.asarray(self.embeddings[level - 1])[codes])
        return 2 * hidden @ self.outputs[level], {"hidden": hidden}

    def log_probabilities(self, user: int, prefix: tuple[int, ...]) -> np.ndarray:
        """Of every code of the next level, in float64."""
        hidden = self.start[user].astype(np.float64)
        for level, code in enumerate(prefix):
            hidden = np.tanh(hidden @ self.mix + self.embeddings[level][code])
        logits = 2 * hidden @ self.outputs[len(prefix)]
        return logits - np.log(np.exp(logits).sum())

    def score(self, user: int, codes: tuple[int, ...]) -> float:
        return sum(self.log_probabilities(user, codes[:level])[code] for level, code in enumerate(codes))


def catalogue(sizes: tuple[int, ...], items: int, seed: int = 0) -> np.ndarray:
    """Distinct random codes, low codes more often than high ones, in random order."""
    rng = np.random.default_rng(seed)
    everything = np.array(list(itertools.product(*map(range, sizes))), np.uint16)
    weight = np.exp(-everything.sum(axis=1, dtype=np.float64) / 4.0)
    return everything[rng.choice(len(everything), items, replace=False, p=weight / weight.sum())]


@functools.partial(jax.jit, static_argnames=("decoder", "beams"))
def search(decoder, index, beams):
    return beam_search(decoder.step, index, BATCH, beams)


SHAPES = [((6, 5, 4), 60), ((3, 9, 2, 5), 100), ((30,), 12), ((2, 2, 2, 2, 2), 32), ((5, 7), 1)]


@pytest.mark.parametrize("budget", [0, 40, 1 << 20])
@pytest.mark.parametrize("sizes, items", SHAPES)
def test_a_search_as_wide_as_the_catalogue_equals_brute_force(sizes, items, budget):
    decoder, codes = ToyDecoder(sizes), catalogue(sizes, items)
    index = CatalogueIndex.build(codes, sizes, budget)
    found = search(decoder, index, items)
    for user in range(BATCH):
        exact = np.array([decoder.score(user, tuple(row)) for row in codes])
        assert sorted(found.items[user].tolist()) == list(range(items))
        np.testing.assert_allclose(found.scores[user], exact[found.items[user]], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.scores[user], np.sort(exact)[::-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("budget", [0, 40, 1 << 20])
def test_more_beams_than_items_are_marked(budget):
    sizes = (6, 5, 4)
    index = CatalogueIndex.build(catalogue(sizes, 7), sizes, budget)
    found = search(ToyDecoder(sizes), index, 20)
    assert found.items.shape == found.scores.shape == (BATCH, 20)
    for user in range(BATCH):
        assert sorted(found.items[user, :7].tolist()) == list(range(7))
    assert (found.items[:, 7:] == -1).all() and (found.scores[:, 7:] == -jnp.inf).all()


@pytest.mark.parametrize("budget", [0, 40, 1 << 20])
@pytest.mark.parametrize("beams", [1, 4, 17])
def test_a_narrow_search_prunes_as_a_plain_one_does(beams, budget):
    sizes = (3, 9, 2, 5)
    decoder, codes = ToyDecoder(sizes, seed=1), catalogue(sizes, 120, seed=1)
    found = search(decoder, CatalogueIndex.build(codes, sizes, budget), beams)
    items = {tuple(row): item for item, row in enumerate(codes.tolist())}
    for user in range(BATCH):
        expected = plain_search(decoder, user, items, len(sizes), beams)
        assert found.items[user].tolist() == [items[prefix] for prefix, _ in expected] + [-1] * (beams - len(expected))
        np.testing.assert_allclose(found.scores[user, : len(expected)], [s for _, s in expected], rtol=1e-4)


def plain_search(decoder, user, items, levels, beams) -> list[tuple[tuple[int, ...], float]]:
    kept = [((), 0.0)]
    for level in range(levels):
        prefixes = {codes[: level + 1] for codes in items}
        children = [
            ((*prefix, code), score + log_probability)
            for prefix, score in kept
            for code, log_probability in enumerate(decoder.log_probabilities(user, prefix))
            if (*prefix, code) in prefixes
        ]
        kept = sorted(children, key=lambda child: -child[1])[:beams]
    return kept


def test_no_beams_are_refused():
    index = CatalogueIndex.build(catalogue((2, 2), 3), (2, 2))
    with pytest.raises(ValueError, match="at least one beam"):
        beam_search(ToyDecoder((2, 2)).step, index, BATCH, 0)
