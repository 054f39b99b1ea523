"""Item-based k-nearest neighbors, a collaborative-filtering baseline (Sarwar et al., WWW 2001).

The similarity of two items is the cosine of their sets of users in the training split, with a shrinkage that discounts
few common users (Bell & Koren, KDD Cup 2007): c_ij / (sqrt(n_i n_j) + shrinkage), for c_ij users of both and n_i users
of item i. The score of an item is the sum of its similarities to the items of the history, each weighted `decay` times
as much as the one after it.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from genrec import config, settings_check
from genrec.data.dataset import Dataset
from genrec.ranking.lists import Lists, best

COLUMNS = 2048  # of the similarities computed at a time


class ItemKnn:
    """Item-kNN recommender. An item is no neighbor of itself, but may be one of other items of the history."""

    def __init__(self, similarities: scipy.sparse.csr_matrix, decay: float):
        """`similarities` float32[items, items]: row j has the neighbors of item j."""
        self._similarities, self._decay = similarities, np.float32(decay)

    @staticmethod
    def learn(dataset: Dataset, cfg: config.ItemKnn) -> "ItemKnn":
        """Counts co-occurrences in the training split. Raises ConfigError for invalid settings."""
        settings_check.check(cfg, "item_knn")
        items = len(dataset.catalogue)
        parts = [_distinct(block.offsets, block.items, items) for block in dataset.split("train").blocks()]
        chosen, lengths = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        by_user = scipy.sparse.csr_matrix(
            (np.ones(len(chosen), np.float32), chosen, np.concatenate([[0], np.cumsum(lengths)])),
            (len(lengths), items),
        )
        users = np.asarray(by_user.sum(axis=0), np.float32).reshape(-1)  # of each item
        by_item = by_user.T.tocsr()
        kept = [
            _neighbors((by_item[start : start + COLUMNS] @ by_user).tocsr(), start, users, cfg)
            for start in range(0, items, COLUMNS)
        ]
        return ItemKnn(scipy.sparse.vstack(kept, "csr"), cfg.decay)

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the nearest items; see `lists.Source`. A list ends early where no further item shares a user."""
        lengths = np.array([len(history) for history in histories])
        ages = np.concatenate([np.arange(length)[::-1] for length in lengths]) if len(lengths) else np.zeros(0)
        weights = scipy.sparse.csr_matrix(
            (self._decay**ages, np.concatenate(histories), np.concatenate([[0], np.cumsum(lengths)])),
            (len(histories), self._similarities.shape[0]),
            dtype=np.float32,
        )
        weights.sum_duplicates()
        found = weights @ self._similarities
        items = np.full((len(histories), top), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)
        for row, (start, stop) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True)):
            rows, values = found.indices[start:stop], found.data[start:stop]
            if exclude is not None:
                kept = ~np.isin(rows, exclude[row])
                rows, values = rows[kept], values[kept]
            rows, values = best(values, rows, top)
            items[row, : len(rows)], scores[row, : len(rows)] = rows, values
        return Lists(items, scores)


def _distinct(offsets: np.ndarray, chosen: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct items of each sequence, int32[n] one after the other, and how many, int[sequences].

    `chosen` int[n] are the items of sequences, that of number s at offsets[s] : offsets[s + 1].
    """
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = np.unique(owners * items + chosen)
    return (pairs % items).astype(np.int32), np.bincount(pairs // items, minlength=len(offsets) - 1)


def _neighbors(
    common: scipy.sparse.csr_matrix, first: int, users: np.ndarray, cfg: config.ItemKnn
) -> scipy.sparse.csr_matrix:
    """Returns the similarities of the nearest neighbors of the items from `first` on.

    `common` float32[rows, items] are users in common, `users` float32[items] those of each item.
    """
    data, indices, lengths = [], [], []
    for row, (start, stop) in enumerate(zip(common.indptr[:-1], common.indptr[1:], strict=True)):
        others, counts = common.indices[start:stop], common.data[start:stop]
        counts, others = counts[others != first + row], others[others != first + row]
        similar = counts / (np.sqrt(users[first + row] * users[others]) + np.float32(cfg.shrinkage))
        nearest, values = best(similar, others, cfg.neighbors)
        data.append(values)
        indices.append(nearest)
        lengths.append(len(nearest))
    parts = np.concatenate(data), np.concatenate(indices), np.concatenate([[0], np.cumsum(lengths)])
    return scipy.sparse.csr_matrix(parts, common.shape)
