"""The most-popular list, computed by hand on a small dataset."""

import numpy as np
import pytest

from genrec.ranking.popular import MostPopular, popularity


@pytest.fixture
def dataset(given_dataset):
    """Five items: item 3 has 3 training interactions, items 1 and 2 have 2 each, item 0 has 1, item 4 none."""
    return given_dataset(5, train=[[3, 1, 2], [3, 1], [3, 2, 0]], test=[[3, 1, 2, 4, 0]])


def test_only_training_interactions_count(dataset):
    assert popularity(dataset).tolist() == [1, 2, 2, 3, 0]


def test_all_users_get_the_same_list_with_ties_in_catalogue_order(dataset):
    found = MostPopular(popularity(dataset)).recommend(["a", "b"], [np.array([3]), np.array([1, 2])], 5)
    assert found.items.tolist() == [[3, 1, 2, 0, 4]] * 2
    np.testing.assert_allclose(np.exp(found.scores[0]), np.array([4, 3, 3, 2, 1]) / 13, rtol=1e-6)


def test_lists_end_where_the_catalogue_does():
    found = MostPopular(np.array([1, 2])).recommend(["a"], [np.array([0])], 4)
    assert found.items.tolist() == [[1, 0, -1, -1]] and np.isneginf(found.scores[0, 2:]).all()
