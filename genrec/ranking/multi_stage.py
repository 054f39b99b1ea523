"""The classic recommender in stages: candidates of several sources, a ranker that scores them, rules for the list.

After the two-stage design of Covington et al. (RecSys 2016). Each stage can be any of the methods here: the generator
and SASRec are sources as item-kNN is, and re-ranking what the generator proposes by SASRec is one setting of it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from genrec.ranking import candidates as candidate_lists
from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates
from genrec.ranking.lists import Lists, Source


class Ranker(Protocol):
    """Scores given items for given histories."""

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """float32[users, n], log-probabilities of items int32[users, n], catalogue rows; NaN for row -1."""


class Stages(NamedTuple):
    """What each stage made of a batch of users, and how long it took."""

    lists: dict[str, Lists]  # of each source
    candidates: Candidates  # with what sources and ranker say of them
    final: Lists
    seconds: dict[str, float]  # of each source, "ranker" and "scoring"


class MultiStageRecommender:
    """A recommender made of others; itself a `lists.Source`."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        ranker: Ranker | None,
        rules: scoring.Rules,
        weights: Mapping[str, float],
        per_source: int,
        items: int,
    ):
        """`weights` of sources by name, and of "ranker"; `per_source` candidates of each; `items` of the catalogue."""
        self._sources, self._ranker, self._rules = dict(sources), ranker, rules
        self.weights, self._per_source, self._items = dict(weights), per_source, items

    def candidates(
        self, user_ids: Sequence[str], histories: Sequence[np.ndarray]
    ) -> tuple[dict[str, Lists], Candidates, dict[str, float]]:
        """The first two stages: the sources' lists, their union with all scores, and seconds by stage."""
        lists, seconds = {}, {}
        for name, source in self._sources.items():
            start = time.monotonic()
            lists[name] = source.recommend(user_ids, histories, self._per_source)
            seconds[name] = time.monotonic() - start
        found = candidate_lists.together(lists, self._items)
        if self._ranker is not None:
            start = time.monotonic()
            found.scores["ranker"] = self._ranker.score(user_ids, histories, found.items)
            seconds["ranker"] = time.monotonic() - start
        return lists, found, seconds

    def stages(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Stages:
        """All stages, for users with histories int[n] of catalogue rows, oldest first."""
        lists, found, seconds = self.candidates(user_ids, histories)
        start = time.monotonic()
        final = self._rules.apply(found.items, scoring.pool(found, self.weights), histories, top)
        return Stages(lists, found, final, seconds | {"scoring": time.monotonic() - start})

    def recommend(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Lists:
        """See `lists.Source`."""
        return self.stages(user_ids, histories, top).final


def by_ranker(found: Candidates, top: int) -> Lists:
    """The candidates in the order of the ranker's scores alone: the list after the second stage."""
    scores = np.where(found.items >= 0, found.scores["ranker"], -np.inf)
    order = np.lexsort((found.items, -scores), axis=1)[:, :top]
    items, scores = (np.take_along_axis(x, order, axis=1) for x in (found.items, scores))
    short = top - items.shape[1]
    if short > 0:
        items = np.pad(items, ((0, 0), (0, short)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    return Lists(items, scores.astype(np.float32))


def report(stages: Stages, targets: np.ndarray, cutoff: int) -> list[dict[str, Any]]:
    """A row a stage: how often the target is among the first `cutoff` and among all, and milliseconds a user.

    `lift` is the recall at `cutoff` relative to that of the best single source. For the union of candidates, which has
    no order, only the recall of all counts: what no later stage can exceed.
    """
    users = len(targets)

    def recalls(items: np.ndarray) -> tuple[float, float]:
        hits = items == targets[:, None]
        return float(hits[:, :cutoff].any(axis=1).mean()), float(hits.any(axis=1).mean())

    rows = []
    for name, lists in stages.lists.items():
        first, whole = recalls(lists.items)
        rows.append({"stage": f"source: {name}", "recall": first, "recall of all": whole, "seconds": name})
    best = max(row["recall"] for row in rows)
    rows.append({"stage": "candidates", "recall": None, "recall of all": recalls(stages.candidates.items)[1]})
    if "ranker" in stages.candidates.scores:
        first, whole = recalls(by_ranker(stages.candidates, stages.candidates.items.shape[1]).items)
        rows.append({"stage": "ranker", "recall": first, "recall of all": whole, "seconds": "ranker"})
    first, whole = recalls(stages.final.items)
    rows.append({"stage": "final", "recall": first, "recall of all": whole, "seconds": "scoring"})
    return [
        {
            "stage": row["stage"],
            f"recall@{cutoff}": row["recall"],
            "recall of all": row["recall of all"],
            "lift": None if row["recall"] is None or not best else row["recall"] / best,
            "ms per user": 1000 * stages.seconds[row["seconds"]] / users if "seconds" in row else None,
        }
        for row in rows
    ]


def table(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Plain text of `report`."""
    names = list(rows[0])[1:]
    lines = [title, f"{'':<24}" + "".join(f"{name:>16}" for name in names)]
    for row in rows:
        cells = ("" if row[name] is None else f"{row[name]:.4f}" for name in names)
        lines.append(f"{row['stage']:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
