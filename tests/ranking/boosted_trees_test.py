"""Boosted trees as final scores."""

import json

import numpy as np
import pytest

from genrec.ranking import boosted_trees, scoring
from genrec.ranking.boosted_trees import BoostedTrees
from genrec.ranking.candidates import Candidates
from genrec.ranking.tree_scores import TreeScores

USERS, COUNT = 1500, 6


def drawn(logits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns a target for each user, drawn by the softmax of logits [users, candidates]."""
    return np.array([random.choice(COUNT, p=row / row.sum()) for row in np.exp(logits)])


def weighted_sum(candidates: Candidates, targets: np.ndarray) -> boosted_trees.Scores:
    weights = scoring.fit(candidates, targets, list(candidates.scores))
    return lambda others: scoring.pool(others, weights)


@pytest.fixture(scope="module")
def interacting() -> tuple[Candidates, np.ndarray]:
    """Candidates of users of two kinds, each of which one source knows; the sum of both knows neither well."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, USERS, COUNT))
    kind = np.repeat(np.arange(USERS)[:, None] % 2, COUNT, axis=1).astype(float)
    items = np.tile(np.arange(COUNT), (USERS, 1))
    targets = drawn(np.where(kind == 1, 3 * first, 3 * second), random)
    return Candidates(items, {"first": first, "second": second}, {"kind": kind}), targets


def test_trees_are_chosen_where_scores_depend_on_each_other(interacting):
    compared = boosted_trees.choose(*interacting, weighted_sum)
    assert compared["trees"] > compared["weighted sum"] + 0.02


def test_the_weighted_sum_is_as_good_where_the_truth_is_one():
    random = np.random.default_rng(1)
    scores = random.normal(size=(2, 300, COUNT))
    items = np.tile(np.arange(COUNT), (300, 1))
    compared = boosted_trees.choose(
        Candidates(items, dict(zip("ab", scores, strict=True))), drawn(2 * scores[0], random), weighted_sum
    )
    assert compared["weighted sum"] >= compared["trees"]


def test_served_trees_score_as_those_that_were_fitted(interacting):
    candidates, targets = interacting
    items, scores = candidates.items.copy(), {name: of.copy() for name, of in candidates.scores.items()}
    items[::3, -1], scores["first"][:, 0] = -1, np.nan
    given = Candidates(items, scores, candidates.features)
    trees = BoostedTrees(given, targets)
    served = TreeScores.from_json(json.loads(json.dumps(trees.for_serving().as_json())))
    np.testing.assert_allclose(served.score(given), trees.score(given), rtol=1e-6)
    turned = Candidates(items, dict(reversed(scores.items())), candidates.features)
    np.testing.assert_array_equal(served.score(turned), served.score(given))
    assert (served.score(Candidates(np.full((2, 3), -1), {}, {})) == -np.inf).all()


def test_missing_scores_and_candidates(interacting):
    candidates, targets = interacting
    items, scores = candidates.items.copy(), {name: of.copy() for name, of in candidates.scores.items()}
    items[::3, -1], scores["first"][:, 0] = -1, np.nan
    scores["first"][5] = np.nan
    trees = BoostedTrees(Candidates(items, scores, candidates.features), targets)
    found = trees.score(Candidates(items, scores, candidates.features))
    np.testing.assert_array_equal(found == -np.inf, items < 0)
    assert np.isfinite(found[items >= 0]).all()
    one = Candidates(
        items[3:4], {name: of[3:4] for name, of in scores.items()}, {"kind": candidates.features["kind"][3:4]}
    )
    np.testing.assert_array_equal(trees.score(one), found[3:4])  # users alone or together get the same
    empty = Candidates(
        np.full((1, 2), -1), {name: np.full((1, 2), np.nan) for name in scores}, {"kind": np.zeros((1, 2))}
    )
    assert (trees.score(empty) == -np.inf).all()
    again = BoostedTrees(Candidates(items, scores, candidates.features), targets)
    np.testing.assert_array_equal(again.score(one), found[3:4])


def test_targets_that_are_no_candidates_cannot_be_fitted(interacting):
    with pytest.raises(ValueError, match="no target"):
        BoostedTrees(interacting[0], np.full(USERS, 99))
