"""The most-popular baseline: the items with the most training interactions, the same for all users."""

from collections.abc import Iterator, Sequence

import numpy as np

from genrec.data.dataset import Dataset
from genrec.ranking.lists import Lists, ScoredItems, without


def popularity(dataset: Dataset) -> np.ndarray:
    """Returns int64[items]: the number of training interactions of each item."""
    counts = np.zeros(len(dataset.catalogue), np.int64)
    for block in dataset.split("train").blocks():
        counts += np.bincount(block.items, minlength=len(counts))
    return counts


class MostPopular:
    """Recommends all items by descending popularity, ties in catalogue order.

    With the popularities (2, 5, 2), the list is items 1, 0, 2. Scores are the logarithms of the items' shares of the
    interactions, with one added to every count.
    """

    def __init__(self, popularity: np.ndarray):
        """`popularity` int[items], training interactions."""
        self._order = np.argsort(-popularity, kind="stable").astype(np.int32)
        shares = (popularity + 1) / (popularity.sum() + len(popularity))
        self._scores = np.log(shares[self._order]).astype(np.float32)

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the same list for each user, but for what it excludes; see `lists.Source`."""
        length = top + max(map(len, exclude or []), default=0)
        items, scores = np.full(length, -1, np.int32), np.full(length, -np.inf, np.float32)
        found = min(length, len(self._order))
        items[:found], scores[:found] = self._order[:length], self._scores[:length]
        lists = Lists(np.tile(items, (len(user_ids), 1)), np.tile(scores, (len(user_ids), 1)))
        return lists if exclude is None else without(lists, exclude, top)

    def scored(self, histories: Sequence[np.ndarray]) -> Iterator[ScoredItems]:
        """Yields all items after each history; see `lists.Scorer`."""
        return ((self._order, self._scores) for _ in histories)
