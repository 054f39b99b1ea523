"""The ranker of a multi-stage recommender: SASRec's score and features of history, item and context, log-linear.

It needs no candidate lists, so it also scores any items for any history in real time (`serving.item_scorer`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from genrec.ranking import scoring
from genrec.ranking.candidates import Candidates
from genrec.ranking.features import Features

SEQUENTIAL = "SASRec"  # the sequential model's score among the features


class SequentialScorer(Protocol):
    """A sequential model as a scorer: `model_sources.SasRec`, or that of a bundle."""

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns log-likelihoods float32[users, n] of items int32[users, n]; NaN for row -1 and unknown items."""


class FeatureRanker:
    """A log-linear model of SASRec's score and the features; a `multi_stage.Ranker`."""

    def __init__(self, model: SequentialScorer, features: Features, weights: Mapping[str, float] | None = None):
        """`weights` of features by name; by default, SASRec's score alone."""
        self._model, self._features = model, features
        self.weights = dict(weights or {SEQUENTIAL: 1.0})

    def features(
        self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns SASRec's score and all features, float32[users, n] of items int32[users, n], -1 for none."""
        found = {SEQUENTIAL: self._model.score(user_ids, histories, items)}
        return found | self._features.compute(user_ids, histories, items)

    def fit(self, found: Candidates, targets: np.ndarray) -> None:
        """Fits the weights on candidates, with their features, of users with targets int[users]; see `scoring.fit`."""
        of_features = Candidates(found.items, dict(found.features))
        self.weights = scoring.fit(of_features, targets, list(found.features), signed=True)

    def combine(self, items: np.ndarray, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the scores float32[users, n] of items with these features; see `score`."""
        return np.where(items >= 0, scoring.pool(Candidates(items, dict(features)), self.weights), np.nan)

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns scores float32[users, n] of items int32[users, n], comparable within a user; NaN for row -1."""
        return self.combine(items, self.features(user_ids, histories, items))
