"""The mixture of transitions against its formula, and its shares of codes against sums over items."""

import numpy as np
import pytest
from random_transitions import ITEMS, SIZES, codes_of, random_mixture

from genrec import artifacts
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
