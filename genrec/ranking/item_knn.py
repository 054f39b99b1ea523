"""Item-based k-nearest neighbors, a collaborative-filtering baseline (Sarwar et al., WWW 2001).

The similarity of two items is the cosine of their sets of users in the training split, with a shrinkage that discounts
few common users (Bell & Koren, KDD Cup 2007): c_ij / (sqrt(n_i n_j) + shrinkage), for c_ij users of both and n_i users
of item i. The score of an item is the sum of its similarities to the items of the history, each weighted `decay` times
as much as the one after it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse

from genrec import config, settings_check
from genrec.data.dataset import Dataset
from genrec.ranking.lists import Lists, ScoredItems, best, outside, ranked

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
        eligible = outside(exclude, self._similarities.shape[0])
        return ranked(self.scored(histories), len(histories), top, eligible)

    def scored(self, histories: Sequence[np.ndarray]) -> Iterator[ScoredItems]:
        """Yields the neighbors of the items of each history; see `lists.Scorer`.

        Items of a history that came after the training split have no neighbors, but let those before them be older.
        """
        users, items = len(histories), self._similarities.shape[0]
        lengths = np.array([len(history) for history in histories], np.int64)
        chosen = np.concatenate([np.zeros(0, np.int32), *histories])
        ages = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(chosen))
        known, owners = chosen < items, np.repeat(np.arange(users), lengths)
        ends = np.cumsum(np.bincount(owners[known], minlength=users))
        weights = scipy.sparse.csr_matrix(
            (self._decay ** ages[known], chosen[known], np.concatenate([[0], ends])),
            (users, items),
            dtype=np.float32,
        )
        weights.sum_duplicates()
        found = weights @ self._similarities
        for start, stop in itertools.pairwise(found.indptr):
            yield found.indices[start:stop], found.data[start:stop]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the recommender as arrays by name; see `of_arrays`."""
        parts = {name: getattr(self._similarities, name) for name in ("data", "indices", "indptr")}
        return {**parts, "decay": np.array([self._decay])}

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> "ItemKnn":
        """Returns the recommender of the result of `arrays`."""
        items = len(arrays["indptr"]) - 1
        parts = arrays["data"], arrays["indices"], arrays["indptr"]
        return ItemKnn(scipy.sparse.csr_matrix(parts, (items, items)), float(arrays["decay"][0]))


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
