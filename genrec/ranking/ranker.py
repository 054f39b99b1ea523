"""The ranker: the sequential model's score of each candidate, with features of history, item and context beside it.

It needs no list to start from, so it also runs alone: as a scorer of any items for any history, in real time.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates
from genrec.ranking.features import Features
from genrec.ranking.model_sources import SasRec

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
