"""The multi-stage recommender on given lists."""

import numpy as np
import pyarrow as pa

from genrec.config import FinalScoring
from genrec.data.dataset import Catalogue
from genrec.ranking import multi_stage, scoring
from genrec.ranking.lists import Lists, without

ITEMS, USERS = 20, 15
USER_IDS = [f"u{user}" for user in range(USERS)]
HISTORIES = [np.array([user % ITEMS]) for user in range(USERS)]


class Given:
    """A source whose lists depend on the user alone."""

    def __init__(self, seed: int):
        random = np.random.default_rng(seed)
        self.items = {user: random.permutation(ITEMS) for user in USER_IDS}

    def recommend(self, user_ids, histories, top, exclude=None):
        items = np.array([self.items[user] for user in user_ids], np.int32)
        lists = Lists(items, np.tile(-np.arange(ITEMS, dtype=np.float32), (len(user_ids), 1)))
        return without(lists, exclude or [()] * len(user_ids), top)


class Likes:
    """A ranker that likes the items after the last one of the history."""

    def features(self, user_ids, histories, items):
        return {"after": (items - np.array([history[-1] for history in histories])[:, None] - 1) % ITEMS}

    def combine(self, items, features):
        return np.where(items >= 0, -features["after"].astype(np.float32), np.nan)


def build(weights, ranker=None, **rules) -> multi_stage.MultiStageRecommender:
    catalogue = Catalogue(pa.table({"item_id": [str(item) for item in range(ITEMS)]}), ())
    made = scoring.Rules(FinalScoring(**rules), catalogue, np.ones(ITEMS))
    return multi_stage.MultiStageRecommender({"a": Given(0), "b": Given(1)}, ranker, made, weights, 6, ITEMS)


def test_one_source_alone_keeps_its_order():
    found = build({"a": 1.0}).recommend(USER_IDS, HISTORIES, 5)
    np.testing.assert_array_equal(found.items, Given(0).recommend(USER_IDS, HISTORIES, 5).items)


def test_the_ranker_orders_the_union_of_the_candidates():
    stages = build({"ranker": 1.0}, Likes()).stages(USER_IDS, HISTORIES, 4)
    for user in range(USERS):
        union = set(stages.lists["a"].items[user].tolist()) | set(stages.lists["b"].items[user].tolist())
        wanted = sorted(union, key=lambda item: (item - HISTORIES[user][-1] - 1) % ITEMS)
        assert stages.final.items[user].tolist() == wanted[:4]
        ranked = multi_stage.by_ranker(stages.candidates).items[user]
        assert ranked[ranked >= 0].tolist() == wanted
    assert set(stages.seconds) == {"a", "b", "ranker", "scoring"}


def test_new_events_change_the_next_list():
    recommender = build({"ranker": 1.0}, Likes())
    before, after = (recommender.recommend(["u0"], [np.array(history)], 3).items for history in ([2], [2, 11]))
    assert before.tolist() != after.tolist()


def test_users_together_or_alone_get_the_same():
    recommender = build({"a": 0.5, "b": 0.3, "ranker": 0.2}, Likes())
    together = recommender.recommend(USER_IDS, HISTORIES, 5, HISTORIES)
    for user in range(USERS):
        chosen = HISTORIES[user : user + 1]
        alone = recommender.recommend(USER_IDS[user : user + 1], chosen, 5, chosen)
        np.testing.assert_array_equal(alone.items[0], together.items[user])


def test_no_stage_has_what_is_excluded_and_the_candidates_of_each_source_stay_as_many():
    exclude = [np.arange(user, user + 5) % ITEMS for user in range(USERS)]
    stages = build({"ranker": 1.0}, Likes()).stages(USER_IDS, HISTORIES, 5, exclude)
    lists = [*(of.items for of in stages.lists.values()), stages.final.items]
    assert all((of >= 0).all() for of in lists)
    for user, excluded in enumerate(exclude):
        assert not np.isin([*lists, stages.candidates.items][-1][user], excluded).any()
        assert not any(np.isin(of[user], excluded).any() for of in lists)


def test_the_report_has_recall_and_lift_of_every_stage():
    stages = build({"ranker": 1.0}, Likes()).stages(USER_IDS, HISTORIES, 3)
    targets = np.array([(history[-1] + 1) % ITEMS for history in HISTORIES])
    rows = {row["stage"]: row for row in multi_stage.report(stages, targets, 3)}
    assert list(rows) == ["source: a", "source: b", "candidates", "ranker", "final"]
    for name in ("a", "b"):
        hits = [target in stages.lists[name].items[user] for user, target in enumerate(targets)]
        first = [target in stages.lists[name].items[user, :3] for user, target in enumerate(targets)]
        assert rows[f"source: {name}"]["recall of all"] == np.mean(hits)
        assert rows[f"source: {name}"]["recall@3"] == np.mean(first)
    # The ranker puts the target first wherever it is a candidate.
    assert rows["final"]["recall@3"] == rows["candidates"]["recall of all"] > rows["source: a"]["recall of all"]
    assert rows["final"]["lift"] == rows["final"]["recall@3"] / max(rows[f"source: {n}"]["recall@3"] for n in "ab")
    assert multi_stage.table(list(rows.values()), "title").count("\n") == 6
