"""Multi-stage recommendation: candidates of several sources, a ranker that scores them, rules for the final list.

After the two-stage design of Covington et al. (RecSys 2016). Any method can be a source, the generator and SASRec as
well as item-kNN; re-ranking the generator's candidates by SASRec is one configuration.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from genrec import tables
from genrec.ranking import candidates as candidate_lists
from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates
from genrec.ranking.lists import Lists, Source

if TYPE_CHECKING:
    from genrec.ranking.boosted_trees import BoostedTrees  # servers do without scikit-learn

RANKER = "ranker"  # its scores among those of the sources


class Ranker(Protocol):
    """Scores given items for given histories, by features of them."""

    def features(
        self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Returns features float32[users, n] by name, of items int32[users, n], catalogue rows; -1 is none."""

    def combine(self, items: np.ndarray, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns log-scores float32[users, n] of items with these features; NaN for row -1."""


class Stages(NamedTuple):
    """The output of each stage for a batch of users, and the time it took."""

    lists: dict[str, Lists]  # of each source
    candidates: Candidates  # with the scores of sources and ranker
    final: Lists
    seconds: dict[str, float]  # of each source, RANKER and "scoring"


class MultiStageRecommender:
    """A recommender that combines sources, ranker and rules; itself a `lists.Source`."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        ranker: Ranker | None,
        rules: scoring.Rules,
        weights: Mapping[str, float],
        per_source: int,
        items: int,
    ):
        """`weights` of sources by name, and of RANKER; `per_source` candidates of each; `items` of the catalogue."""
        self._sources, self._ranker, self._rules = dict(sources), ranker, rules
        self.weights, self._per_source, self._items = dict(weights), per_source, items
        self.trees: BoostedTrees | None = None  # if any, they order the candidates in place of the weights

    def candidates(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        exclude: Sequence[np.ndarray] | None = None,
    ) -> tuple[dict[str, Lists], Candidates, dict[str, float]]:
        """Runs the first two stages: the lists of the sources, their union with all scores, and seconds by stage.

        `exclude` are the catalogue rows int[n] that are no candidates of each user.
        """
        lists, seconds = {}, {}
        for name, source in self._sources.items():
            start = time.monotonic()
            lists[name] = source.recommend(user_ids, histories, self._per_source, exclude)
            seconds[name] = time.monotonic() - start
        found = candidate_lists.merge(lists, self._items)
        if self._ranker is not None:
            start = time.monotonic()
            found = found._replace(features=self._ranker.features(user_ids, histories, found.items))
            found.scores[RANKER] = self._ranker.combine(found.items, found.features)
            seconds[RANKER] = time.monotonic() - start
        return lists, found, seconds

    def stages(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Stages:
        """Runs all stages; for the arguments see `lists.Source`."""
        lists, found, seconds = self.candidates(user_ids, histories, exclude)
        start = time.monotonic()
        scores = scoring.pool(found, self.weights) if self.trees is None else self.trees.score(found)
        final = self._rules.apply(found.items, scores, top)
        return Stages(lists, found, final, seconds | {"scoring": time.monotonic() - start})

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the final lists; see `lists.Source`."""
        return self.stages(user_ids, histories, top, exclude).final


def by_ranker(found: Candidates) -> Lists:
    """Returns all candidates by descending score of the ranker: the lists after the second stage."""
    scores = np.where(found.items >= 0, found.scores[RANKER], -np.inf).astype(np.float32)
    order = np.lexsort((found.items, -scores), axis=1)
    return Lists(np.take_along_axis(found.items, order, axis=1), np.take_along_axis(scores, order, axis=1))


def report(stages: Stages, targets: np.ndarray, cutoff: int) -> list[dict[str, Any]]:
    """Returns a row per stage: recall of targets int[users] at `cutoff` and in the whole list, milliseconds per user.

    `lift` is the recall at `cutoff` relative to that of the best source. The union of candidates has no order: it has
    the recall of the whole list alone, the upper bound for later stages.
    """

    def recall(items: np.ndarray, cutoff: int | None = None) -> float:
        return float((items[:, :cutoff] == targets[:, None]).any(axis=1).mean())

    best = max(recall(lists.items, cutoff) for lists in stages.lists.values())

    def row(stage: str, items: np.ndarray, timed: str | None, ordered: bool = True) -> dict[str, Any]:
        first = recall(items, cutoff) if ordered else None
        return {
            "stage": stage,
            f"recall@{cutoff}": first,
            "recall of all": recall(items),
            "lift": None if first is None or not best else first / best,
            "ms per user": None if timed is None else 1000 * stages.seconds[timed] / len(targets),
        }

    rows = [row(f"source: {name}", lists.items, name) for name, lists in stages.lists.items()]
    rows.append(row("candidates", stages.candidates.items, None, ordered=False))
    if RANKER in stages.candidates.scores:
        rows.append(row("ranker", by_ranker(stages.candidates).items, RANKER))
    return [*rows, row("final", stages.final.items, "scoring")]


def table(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Returns the rows of `report` as plain text."""
    header = ["", *list(rows[0])[1:]]
    return f"{title}\n{tables.text([list(row.values()) for row in rows], header)}"
