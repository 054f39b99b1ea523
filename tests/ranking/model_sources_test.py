import numpy as np
import pytest

from genrec.ranking.model_sources import SasRec


def test_given_items_are_scored_as_in_the_lists_and_new_events_change_the_scores(multi_stage_workdir):
    sasrec = SasRec.load(multi_stage_workdir, 10, 4)
    users, events = ["a", "b", "c"], [np.array([5, 9]), np.array([1]), np.arange(8)]
    lists = sasrec.recommend(users, events, 10)
    wanted = lists.items.copy()
    wanted[1, 4:] = -1
    found = sasrec.score(users, events, wanted)
    assert np.isnan(found[1, 4:]).all()
    np.testing.assert_allclose(found[wanted >= 0], lists.scores[wanted >= 0], rtol=1e-4)
    after = sasrec.score(["a"], [np.array([5, 9, 77])], wanted[:1])
    assert not np.allclose(after, found[:1])


def test_lists_are_no_longer_than_the_retriever_allows(multi_stage_workdir):
    sasrec = SasRec.load(multi_stage_workdir, 10, 4)
    with pytest.raises(ValueError, match="top=11"):
        sasrec.recommend(["a"], [np.array([5])], 11)
