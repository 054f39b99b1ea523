"""Item-kNN against the formula, written out for every pair of items."""

import itertools

import numpy as np
import pytest

from genrec import config
from genrec.ranking import item_knn
from genrec.ranking.item_knn import ItemKnn

ITEMS = 12


def test_two_items_by_hand(given_dataset):
    """Users 0 and 1 chose items 0 and 1, user 2 item 0 alone: 2 / (sqrt(3 * 2) + 1)."""
    knn = ItemKnn.learn(given_dataset(ITEMS, train=[[0, 1], [1, 0, 0], [0]]), config.ItemKnn(shrinkage=1.0, decay=0.5))
    found = knn.recommend(["a", "b"], [np.array([0]), np.array([0, 1])], 3)
    similar = 2 / (6**0.5 + 1)
    assert found.items.tolist() == [[1, -1, -1], [0, 1, -1]]
    np.testing.assert_allclose(found.scores[0, 0], similar, rtol=1e-6)
    np.testing.assert_allclose(found.scores[1, :2], [similar, similar / 2], rtol=1e-6)


@pytest.mark.parametrize("columns", [5, 100])
def test_scores_are_those_of_the_formula(columns, given_dataset, monkeypatch):
    monkeypatch.setattr(item_knn, "COLUMNS", columns)
    random = np.random.default_rng(0)
    sequences = [random.integers(0, ITEMS, random.integers(1, 7)) for _ in range(30)]
    cfg = config.ItemKnn(neighbors=ITEMS, shrinkage=3.0, decay=0.7)
    history = np.array([2, 5, 2, 7])
    found = ItemKnn.learn(given_dataset(ITEMS, train=sequences), cfg).recommend(["u"], [history], ITEMS)
    sets = [{user for user, items in enumerate(sequences) if item in items} for item in range(ITEMS)]
    expected = np.zeros(ITEMS)
    for item, (place, chosen) in itertools.product(range(ITEMS), enumerate(history)):
        if item != chosen:
            both, sizes = len(sets[item] & sets[chosen]), len(sets[item]) * len(sets[chosen])
            expected[item] += 0.7 ** (len(history) - 1 - place) * both / (sizes**0.5 + 3)
    assert sorted(found.items[0][found.items[0] >= 0]) == np.flatnonzero(expected).tolist()
    for item, score in zip(found.items[0], found.scores[0], strict=True):
        assert item < 0 or abs(score - expected[item]) < 1e-5
    assert (np.diff(found.scores[0][found.items[0] >= 0]) <= 0).all()


def test_only_the_nearest_neighbors_count(given_dataset):
    sequences = [[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3]]
    knn = ItemKnn.learn(given_dataset(ITEMS, train=sequences), config.ItemKnn(neighbors=2, shrinkage=0.0))
    assert set(knn.recommend(["u"], [np.array([0])], 5).items[0].tolist()) == {1, 2, -1}


def test_items_that_came_later_only_make_the_others_of_a_history_older(given_dataset):
    cfg = config.ItemKnn(shrinkage=1.0, decay=0.5)
    learned = ItemKnn.learn(given_dataset(ITEMS, train=[[0, 1, 2], [1, 2], [0, 3]]), cfg)
    knn = ItemKnn.of_arrays(learned.arrays())
    before, after = (knn.recommend(["u"], [np.array(history)], 5) for history in ([0, 2], [0, 2, ITEMS + 3]))
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores / 2, after.scores)
    np.testing.assert_array_equal(before.scores, learned.recommend(["u"], [np.array([0, 2])], 5).scores)
    assert (knn.recommend(["u"], [np.array([ITEMS])], 5).items == -1).all()


@pytest.mark.parametrize("setting", [{"neighbors": 0}, {"decay": 0.0}, {"decay": 1.1}, {"shrinkage": -1.0}])
def test_invalid_settings_are_an_error(setting, given_dataset):
    with pytest.raises(config.ConfigError, match=next(iter(setting))):
        ItemKnn.learn(given_dataset(ITEMS, train=[[0, 1]]), config.ItemKnn(**setting))
