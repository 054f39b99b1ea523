"""Scores of given items for users whose events keep coming, in real time."""

import json
from collections.abc import Iterable, Sequence

import numpy as np

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.ranking.ranker import FeatureRanker


class ItemScorer:
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
