"""Pooled scores, fitted weights, and the rules for lists."""

import numpy as np
import pyarrow as pa
import pytest

from genrec.config import ConfigError, FinalScoring
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates

NAN = np.nan
CATALOGUE = Catalogue(
    pa.table({"item_id": list("abcdef"), "artist": [*"xxxyy", None], "kind": list("mpmpmm")}),
    (),
)
POPULARITY = np.array([3, 2, 0, 1, 0, 5])


def test_missing_scores_are_the_lowest_of_a_source():
    candidates = Candidates(
        np.array([[1, 3, 4], [0, 2, -1]]),
        {"a": np.array([[-1, NAN, -3], [NAN, NAN, NAN]]), "b": np.array([[NAN, -2, NAN], [-5, -4, NAN]])},
    )
    pooled = scoring.pool(candidates, {"a": 1.0, "b": 0.5})
    np.testing.assert_allclose(pooled, [[-2, -4, -4], [-2.5, -2, -np.inf]])
    with pytest.raises(ConfigError, match="weights: .* c"):
        scoring.pool(candidates, {"c": 1.0})


def test_fitted_weights_maximize_the_likelihood():
    random = np.random.default_rng(0)
    users, count = 3000, 8
    items = np.tile(np.arange(count), (users, 1))
    right, noise = random.normal(size=(2, users, count))
    shares = np.exp(1.5 * right)
    targets = np.array([random.choice(count, p=row / row.sum()) for row in shares])
    targets[:5] = 99  # no candidate: left out of the fit
    candidates = Candidates(items, {"right": right, "noise": noise})
    weights = scoring.fit(candidates, targets, ["right", "noise"])
    assert abs(weights["right"] - 1.5) < 0.1 and 0 <= weights["noise"] < 0.1
    with pytest.raises(ValueError, match="no target"):
        scoring.fit(candidates, np.full(users, 99), ["right"])


def lists(items, scores, top=3, **rules):
    items, scores = np.array(items), np.array(scores, np.float32)
    found = scoring.Rules(FinalScoring(**rules), CATALOGUE, POPULARITY).apply(items, scores, top)
    assert (found.scores[found.items < 0] == -np.inf).all()
    return found.items.tolist()


def test_without_rules_the_best_come_first_with_ties_in_catalogue_order():
    assert lists([[0, 1, 2, 5], [3, 4, -1, -1]], [[1, 4, 4, 2], [1, 2, -np.inf, -np.inf]]) == [[1, 2, 5], [4, 3, -1]]


def test_filters_and_boosts():
    items, scores = [[0, 1, 2, 3]], [[4, 3, 2, 1]]
    assert lists(items, scores, filter=("kind=p",)) == [[1, 3, -1]]
    assert lists(items, scores, boosts=("kind=p:2.5", "artist=y:1")) == [[1, 3, 0]]
    with pytest.raises(DataError, match="color"):
        lists(items, scores, filter=("color=red",))
    with pytest.raises(ConfigError, match="kind=p"):
        lists(items, scores, boosts=("kind=p",))


def test_max_share_limits_the_items_of_equal_value():
    items, scores = [[0, 1, 2, 3, 4, 5]], [[6, 5, 4, 3, 2, 1]]
    assert lists(items, scores, top=4, max_share=0.5, share_of="artist") == [[0, 1, 3, 4]]
    assert lists(items, scores, top=4, max_share=0.25, share_of="artist") == [[0, 3, 5, -1]]
    with pytest.raises(ConfigError, match="share_of"):
        lists(items, scores, max_share=0.5)
    with pytest.raises(ConfigError, match="max_share=2"):
        lists(items, scores, max_share=2.0, share_of="artist")


def test_places_are_reserved_for_new_items():
    """Items 2 and 4 are new."""
    items, scores = [[0, 1, 2, 3, 4, 5]], [[6, 5, 1, 4, 2, 3]]
    assert lists(items, scores, top=3) == [[0, 1, 3]]
    assert lists(items, scores, top=3, new_items_share=0.34) == [[0, 1, 4]]
    assert lists(items, scores, top=3, new_items_share=1.0) == [[0, 4, 2]]
    assert lists([[0, 1, 3]], [[3, 2, 1]], top=3, new_items_share=0.5) == [[0, 1, 3]]


@pytest.mark.parametrize("share", [0.07, 0.29, 0.57, 0.58])
def test_shares_of_a_hundred_are_hundredths(share):
    """The first hundred items are old, of one artist, and the best; the others are new."""
    catalogue = Catalogue(pa.table({"item_id": [str(n) for n in range(200)], "artist": ["x"] * 100 + ["y"] * 100}), ())
    items, scores = np.arange(200, dtype=np.int32)[None], -np.arange(200, dtype=np.float32)[None]
    popularity, wanted = np.repeat([1, 0], 100), round(100 * share)
    quota = scoring.Rules(FinalScoring(new_items_share=share), catalogue, popularity)
    assert (quota.apply(items, scores, 100).items >= 100).sum() == wanted
    limited = scoring.Rules(FinalScoring(max_share=share, share_of="artist"), catalogue, popularity)
    found = limited.apply(items, scores, 100).items
    assert ((found >= 0) & (found < 100)).sum() == wanted
