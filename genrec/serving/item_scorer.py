"""Real-time scores of given items for users whose histories grow with every event."""

import json
from collections.abc import Iterable, Sequence

import numpy as np

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.errors import shown
from genrec.ranking.ranker import FeatureRanker
from genrec.serving.requests import catalogue_rows


class ItemScorer:
    """Scorer that keeps the histories of users in memory: an event changes the next scores, without training."""

    def __init__(self, ranker: FeatureRanker, catalogue: Catalogue):
        self._ranker, self._catalogue = ranker, catalogue
        self._histories: dict[str, list[int]] = {}

    def observe(self, user_id: str, item_ids: Iterable[str]) -> None:
        """Appends events of a user, oldest first; raises DataError for an unknown item, and appends none then."""
        self._histories.setdefault(user_id, []).extend(catalogue_rows(self._catalogue, list(item_ids)).tolist())

    def score(self, user_id: str, item_ids: Sequence[str]) -> dict[str, float]:
        """Returns the score of each item id, best first; raises DataError for an unknown item, or if there is none."""
        items = catalogue_rows(self._catalogue, item_ids)[None]  # [1, items]
        if not items.size:
            raise DataError("no items to score: give at least one item id.")
        history = np.array(self._histories.get(user_id, []), np.int64)
        scores = self._ranker.score([user_id], [history], items)[0]
        order = np.argsort(-scores, kind="stable")
        return {item_ids[place]: float(scores[place]) for place in order}

    def answer(self, line: str) -> str | None:
        """Handles a line of JSON: {"user", "events": [item ids]}, {"user", "score": [item ids]}, or both.

        Returns a line of JSON with the user and the scores, or None if no scores are requested. Raises DataError for a
        malformed line and for unknown items.
        """
        try:
            request = json.loads(line)
            user_id, events, wanted = request["user"], request.get("events", []), request.get("score")
            if not (isinstance(user_id, str) and _are_ids(events) and (wanted is None or _are_ids(wanted))):
                raise TypeError("ids are text")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f'{shown(line)} is no request: write {{"user": "ID", "events": ["ITEM", ...], "score": ["ITEM", ...]}}.'
            ) from None
        self.observe(user_id, events)
        return None if wanted is None else json.dumps({"user": user_id, "scores": self.score(user_id, wanted)})


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
