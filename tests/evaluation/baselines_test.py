"""The lists of baselines for a split, whatever number of users is read at a time."""

import numpy as np

from genrec.evaluation import baselines
from genrec.evaluation.beyond_accuracy import BeyondAccuracy
from genrec.ranking.lists import Lists


class Newest:
    """Recommends the last items of the history, newest first, and keeps its requests."""

    def __init__(self):
        self.asked = {}

    def recommend(self, user_ids, histories, top, exclude=None):
        self.exclude = None if exclude is None else [rows.tolist() for rows in exclude]
        self.asked |= {user: history.tolist() for user, history in zip(user_ids, histories, strict=True)}
        items = [np.resize(history[::-1], top) for history in histories]
        return Lists(np.array(items, np.int32), np.zeros((len(items), top), np.float32))


def test_histories_end_before_the_target_and_batches_change_nothing(given_dataset, monkeypatch):
    dataset = given_dataset(10, validation=[[1, 2, 3, 2], [4, 5], [6, 7, 8, 9, 6]])
    for at_a_time in (2, 100):
        monkeypatch.setattr(baselines, "USERS_AT_A_TIME", at_a_time)
        source = Newest()
        beyond_accuracy = BeyondAccuracy(np.ones(10), None, 2)
        found = baselines.evaluate(baselines.recommend(source, dataset, "validation", 2, 3), beyond_accuracy)
        assert source.asked == {"u0": [1, 2, 3], "u1": [4], "u2": [7, 8, 9]}
        assert found.ranks.tolist() == [2, 0, 0]
        expected = BeyondAccuracy(np.ones(10), None, 2)
        expected.add(np.array([[3, 2], [4, 4], [9, 8]]))
        assert found.beyond_accuracy == expected.figures()
        list(baselines.recommend(source, dataset, "validation", 2, max_history=0))
        assert source.asked == {"u0": [], "u1": [], "u2": []} and source.exclude is None


def test_all_items_before_the_target_are_excluded(given_dataset):
    source = Newest()
    dataset = given_dataset(10, validation=[[1, 2, 3, 2], [4, 5]])
    list(baselines.recommend(source, dataset, "validation", 2, max_history=1, exclude_history=True))
    assert source.asked == {"u0": [3], "u1": [4]} and source.exclude == [[1, 2, 3], [4]]
