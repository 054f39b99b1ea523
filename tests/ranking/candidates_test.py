"""The union of lists, against sets."""

import numpy as np

from genrec.ranking.candidates import merge
from genrec.ranking.lists import Lists


def test_the_example_of_the_docstring():
    first, second = Lists(np.array([[5, 2]]), np.array([[-1.0, -2.0]])), Lists(np.array([[2, 7]]), np.array([[3, 1]]))
    lists = {"a": first, "b": second}
    found = merge(lists, 8)
    assert found.items.tolist() == [[2, 5, 7]]
    np.testing.assert_array_equal(found.scores["a"], [[-2, -1, np.nan]])
    np.testing.assert_array_equal(found.scores["b"], [[3, np.nan, 1]])


def test_every_item_of_every_list_once_with_its_scores():
    random = np.random.default_rng(0)
    users, items = 20, 30
    lists = {}
    for name, top in (("a", 4), ("b", 7), ("c", 1)):
        chosen = np.array([random.permutation(items)[:top] for _ in range(users)], np.int32)
        chosen[random.random(chosen.shape) < 0.2] = -1
        lists[name] = Lists(chosen, random.normal(size=chosen.shape).astype(np.float32))
    found = merge(lists, items)
    for user in range(users):
        union = {int(i) for one in lists.values() for i in one.items[user] if i >= 0}
        assert found.items[user][found.items[user] >= 0].tolist() == sorted(union)
        for name, one in lists.items():
            given = dict(zip(one.items[user].tolist(), one.scores[user].tolist(), strict=True))
            for item, score in zip(found.items[user].tolist(), found.scores[name][user].tolist(), strict=True):
                assert score == given[item] if item >= 0 and item in given else np.isnan(score)


def test_users_without_any_candidate():
    nothing = Lists(np.full((2, 3), -1), np.full((2, 3), -np.inf))
    found = merge({"a": nothing}, 5)
    assert found.items.tolist() == [[-1], [-1]] and np.isnan(found.scores["a"]).all()
