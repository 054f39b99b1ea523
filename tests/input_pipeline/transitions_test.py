"""The mixture of transitions against its formula, and its shares of codes against sums over items."""

import dataclasses

import numpy as np
import pytest
from random_transitions import ITEMS, SIZES, codes_of, random_mixture

from genrec import artifacts, config
from genrec.input_pipeline import transitions
from genrec.input_pipeline.transitions import CodeShares, Transitions


def formula(mixture: Transitions, history: np.ndarray, part: int) -> np.ndarray:
    """The mixture after a history, item by item, up to a factor."""
    matrix, recent = mixture.matrix.toarray()[part * ITEMS :][:ITEMS], history[::-1][: transitions.RECENT]
    ages = mixture.ages[: len(recent)]
    mixed = sum((age * matrix[item] for age, item in zip(ages, recent, strict=True)), start=np.zeros(ITEMS))
    first = (1 - mixture.popular_weight) * mixed / max(ages.sum(), 1e-9)
    return np.where(np.isin(np.arange(ITEMS), history), mixture.repeat, 1) * (
        mixture.popular_weight * mixture.popular + first
    )


@pytest.fixture(scope="module")
def histories():
    random = np.random.default_rng(3)
    return [random.integers(0, ITEMS, length) for length in (0, 1, 2, 9, 15)]


def test_probabilities_are_those_of_the_formula(histories):
    mixture = random_mixture(0)
    expected = np.array([formula(mixture, history, mixture.parts) for history in histories])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.dense(histories), expected, rtol=1e-5)


def test_shares_of_codes_are_sums_over_items(histories):
    mixture, codes = random_mixture(1), codes_of(1)
    shares = CodeShares.of(mixture, codes, SIZES)
    targets, parts = np.array([3, 29, 0, 11, 7]), np.array([0, 1, 2, 0, 1])
    stop = np.cumsum([len(one) for one in histories])
    found = shares.log_shares(np.concatenate(histories), stop - [len(h) for h in histories], stop, targets, parts)
    for row, (history, target, part) in enumerate(zip(histories, targets, parts, strict=True)):
        probability = formula(mixture, history, part)
        for level, size in enumerate(SIZES):
            under = (codes[:, :level] == codes[target, :level]).all(axis=1)
            of_codes = [probability[under & (codes[:, level] == code)].sum() for code in range(size)]
            expected = np.log(np.array(of_codes) / probability[under].sum() + transitions.FLOOR)
            np.testing.assert_allclose(found[level][row], expected, rtol=1e-3, atol=1e-3)


def test_newer_items_are_as_likely_as_the_rarest(histories):
    mixture, codes = random_mixture(2, items=ITEMS - 5), codes_of(2)
    found = CodeShares.of(mixture, codes, SIZES).probabilities(histories)
    assert found.shape == (len(histories), ITEMS)
    rarest = mixture.popular_weight * mixture.popular.min()
    for row, history in zip(found, histories, strict=True):
        repeated = np.isin(np.arange(ITEMS - 5, ITEMS), history)
        np.testing.assert_allclose(row[ITEMS - 5 :], np.where(repeated, mixture.repeat, 1) * rarest, rtol=1e-5)


def test_a_mixture_is_saved_and_loaded(tmp_path, histories):
    mixture = random_mixture(4)
    with artifacts.writing(tmp_path / "made", transitions.KIND, "recipe", config={}) as draft:
        mixture.save(draft.path)
    loaded = Transitions.load(tmp_path / "made")
    np.testing.assert_array_equal(loaded.dense(histories), mixture.dense(histories))


def test_learned_transitions_predict_and_a_part_does_not_know_its_own_sequences(given_dataset):
    """Users go in steps of 1 through the items; one alone goes from 5 to 20, which its own part must not know."""
    random = np.random.default_rng(0)
    starts = random.integers(0, ITEMS - 6, 200)
    walks = [list(range(start, start + 5)) for start in starts]
    walks[8] = [5, 20]
    dataset = given_dataset(ITEMS, train=walks, validation=[[*walk, walk[-1] + 1] for walk in walks])
    cfg = config.Transitions(neighbors=10, parts=4)
    found = transitions.fit(cfg, dataset.split("train"), dataset.split("validation"), random.normal(size=(ITEMS, 8)))
    walked = range(ITEMS - 4)  # the others only follow
    assert (found.dense([np.array([item]) for item in walked]).argmax(axis=1) == np.array(walked) + 1).all()
    probability = {
        part: found.sparse(np.array([5]), np.array([0]), np.array([1]), np.array([part])).toarray()[0, 20]
        for part in range(5)
    }
    assert probability[8 % 4] < 0.5 * min(probability[part] for part in (1, 2, 3, 4))
    np.testing.assert_allclose(found.dense([np.array([], int), np.array([3])]).sum(axis=1), [0.5, 1], atol=0.5)


def test_few_sequences_are_no_problem(given_dataset):
    dataset = given_dataset(3, train=[[0], [1], [2]], validation=[[0, 1]])
    found = transitions.fit(config.Transitions(), dataset.split("train"), dataset.split("validation"), np.eye(3))
    assert np.isfinite(found.dense([np.array([0]), np.array([], int)])).all()


@pytest.mark.parametrize("repeats", (0.0, 0.5, 1.0))
def test_the_weight_of_repeats_maximizes_the_likelihood(given_dataset, repeats):
    random = np.random.default_rng(1)
    walks = [random.permutation(ITEMS)[:6].tolist() for _ in range(300)]
    others = [np.setdiff1d(np.arange(ITEMS), walk) for walk in walks]
    nexts = [random.choice(w if random.random() < repeats else o) for w, o in zip(walks, others, strict=True)]
    dataset = given_dataset(ITEMS, train=walks, validation=[[*w, one] for w, one in zip(walks, nexts, strict=True)])
    cfg = config.Transitions(neighbors=10)
    found = transitions.fit(cfg, dataset.split("train"), dataset.split("validation"), random.normal(size=(ITEMS, 8)))

    def loss(repeat: float) -> float:
        probabilities = dataclasses.replace(found, repeat=repeat).dense([np.array(walk) for walk in walks])
        return -np.log(probabilities[np.arange(len(walks)), nexts]).mean()

    assert loss(found.repeat) <= min(loss(found.repeat * 0.9), loss(found.repeat * 1.1)) or found.repeat in (1e-3, 1e3)
    assert found.repeat < 0.5 if not repeats else found.repeat > 1
