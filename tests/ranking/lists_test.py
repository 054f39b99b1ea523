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
