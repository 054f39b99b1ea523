"""The ranker: the sequential model's score of each candidate, with features of history, item and context beside it.

It needs no list to start from, so it also runs alone: as a scorer of any items for any history, in real time.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates
from genrec.ranking.features import Features
from genrec.ranking.models import SasRec

SEQUENTIAL = "SASRec"  # name of the sequential model's score among the features


class FeatureRanker:
    """A log-linear model of the sequential score and the features; a `multi_stage.Ranker`."""

    def __init__(self, model: SasRec, features: Features, weights: Mapping[str, float] | None = None):
        """`weights` by the names of the features; before `fit`, the sequential model decides alone."""
        self._model, self._features = model, features
        self.weights = dict(weights or {SEQUENTIAL: 1.0})

    def known(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> Candidates:
        """Everything that is known of items int32[users, n], catalogue rows, -1 for none."""
        found = {SEQUENTIAL: self._model.score(user_ids, histories, items)}
        return Candidates(items, found | self._features.of(user_ids, histories, items))

    def fit(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], found: Candidates, targets: np.ndarray):
        """Learns the weights from candidates of users whose next items, int[users], are known; see `scoring.fit`."""
        everything = self.known(user_ids, histories, found.items)
        self.weights = scoring.fit(everything, targets, list(everything.scores), signed=True)

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """float32[users, n]: scores of items int32[users, n]; comparable within a user; NaN for row -1."""
        everything = self.known(user_ids, histories, items)
        return np.where(items >= 0, scoring.pool(everything, self.weights), np.nan)


class RealTimeScorer:
    """Scores items for users whose events keep coming: each changes the scores of the next call, without training."""

    def __init__(self, ranker: FeatureRanker, catalogue: Catalogue):
        self._ranker, self._catalogue = ranker, catalogue
        self._histories: dict[str, list[int]] = {}

    def observe(self, user_id: str, item_ids: Iterable[str]) -> None:
        """Adds events of a user, oldest first. Raises DataError for an unknown item, and adds none then."""
        self._histories.setdefault(user_id, []).extend(self._rows(item_ids))

    def score(self, user_id: str, item_ids: Sequence[str]) -> dict[str, float]:
        """The items with their scores, best first; raises DataError for an unknown one, or for none."""
        rows = np.array([self._rows(item_ids)], np.int32)
        if not rows.size:
            raise DataError("no items to score: give at least one item id.")
        history = np.array(self._histories.get(user_id, []), np.int64)
        scores = self._ranker.score([user_id], [history], rows)[0]
        order = np.argsort(-scores, kind="stable")
        return {item_ids[place]: float(scores[place]) for place in order}

    def answer(self, line: str) -> str | None:
        """Serves a line of JSON: {"user", "events": [item ids]}, {"user", "score": [item ids]}, or both.

        Returns a line of JSON with the user and the scores where some are asked for. Raises DataError for what is no
        such line.
        """
        try:
            request = json.loads(line)
            user_id, events, wanted = request["user"], request.get("events", []), request.get("score")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                f'{line[:80]!r} is no request: write {{"user": ID, "events": [ITEM, ...], "score": [ITEM, ...]}}.'
            ) from None
        self.observe(user_id, events)
        return None if wanted is None else json.dumps({"user": user_id, "scores": self.score(user_id, wanted)})

    def _rows(self, item_ids: Iterable[str]) -> list[int]:
        item_ids = list(item_ids)
        for item_id in item_ids:
            if item_id not in self._catalogue.index:
                raise DataError(f"no item {item_id!r} in the catalogue. Item ids are written as in the items file.")
        return [self._catalogue.index[item_id] for item_id in item_ids]
