import numpy as np

from genrec.ranking import lists


def test_the_best_of_scored_items_with_ties_in_catalogue_order():
    random = np.random.default_rng(0)
    for _ in range(50):
        items = random.permutation(40)
        scores = random.integers(0, 4, 40).astype(float)
        found, values = lists.best(scores, items, 6)
        expected = sorted(zip(-scores, items, strict=True))[:6]
        assert list(zip(-values, found, strict=True)) == expected


def test_what_is_excluded_makes_room_for_the_next_items():
    items = np.array([[4, 2, 7, 1], [3, -1, -1, -1]])
    found = lists.without(lists.Lists(items, -np.arange(8.0).reshape(2, 4)), [np.array([2, 2, 9]), np.array([3])], 2)
    assert found.items.tolist() == [[4, 7], [-1, -1]]
    assert found.scores.tolist() == [[0, -2], [-np.inf, -np.inf]]
