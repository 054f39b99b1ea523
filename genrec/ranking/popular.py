"""Most popular: everyone gets the items with the most training interactions. What a model must beat to be of use."""

from collections.abc import Sequence

import numpy as np

from genrec.data.dataset import Dataset
from genrec.ranking.lists import Lists, records


def popularity(dataset: Dataset) -> np.ndarray:
    """int64[items]: training interactions of each item of the catalogue."""
    counts = np.zeros(len(dataset.catalogue), np.int64)
    for some in records(dataset.split("train")):
        counts += np.bincount(np.concatenate([record.items for record in some]), minlength=len(counts))
    return counts


class MostPopular:
    """The same list for every user: all items by popularity, equally popular ones in catalogue order.

    With the popularities (2, 5, 2), the list is items 1, 0, 2. Nothing is removed from it. A score is the logarithm of
    the item's share of the interactions, with one added to every count.
    """

    def __init__(self, popularity: np.ndarray):
        """`popularity` int[items], training interactions."""
        self._order = np.argsort(-popularity, kind="stable").astype(np.int32)
        shares = (popularity + 1) / (popularity.sum() + len(popularity))
        self._scores = np.log(shares[self._order]).astype(np.float32)

    def recommend(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Lists:
        """See `lists.Source`."""
        items, scores = np.full(top, -1, np.int32), np.full(top, -np.inf, np.float32)
        found = min(top, len(self._order))
        items[:found], scores[:found] = self._order[:top], self._scores[:top]
        return Lists(*(np.tile(row, (len(user_ids), 1)) for row in (items, scores)))
