"""Beyond-accuracy metrics: coverage of the catalogue, Gini coefficient, novelty, intra-list diversity.

They are over the first `k` places of every list; empty places do not count. Novelty is defined as in Vargas & Castells
(RecSys 2011), intra-list similarity as in Ziegler et al. (WWW 2005).
"""

from collections.abc import Mapping

import numpy as np

from genrec import tables

LISTS = 1024  # whose vectors are held at a time
BETTER = {"coverage": "higher", "gini": "lower", "novelty": "higher", "intra_list_diversity": "higher"}


class BeyondAccuracy:
    """Beyond-accuracy metrics of lists, some of which are added at a time; equal for any division of the same lists."""

    def __init__(self, popularity: np.ndarray, embeddings: np.ndarray | None, k: int):
        """`popularity` int[items] are training interactions, `k` is the number of places of a list that count.

        `embeddings` float32[items, width] are those of the items' content; None leaves the diversity out.
        """
        self._popularity, self._k = popularity, k
        self._counts = np.zeros(len(popularity), np.int64)  # how often each item is recommended
        self._diversity = None if embeddings is None else _Diversity(embeddings)

    def add(self, recommended: np.ndarray) -> None:
        """Counts lists int[users, at least k] of further users: catalogue rows, -1 for an empty place."""
        first = recommended[:, : self._k]
        self._counts += np.bincount(first[first >= 0], minlength=len(self._counts))
        if self._diversity is not None:
            self._diversity.add(first)

    def figures(self) -> dict[str, float]:
        """Returns the metrics.

        "coverage@k": share of the catalogue that is in some list. "gini@k": Gini coefficient of how often items are
        recommended, 0 if all are equally often, near 1 if it is always the same few. "novelty@k": mean of -log2 of an
        item's share of the training interactions (one added to every count), in bits. "intra_list_diversity@k": mean
        over lists of at least two items of 1 - cosine, over their pairs.
        """
        counts, popularity, shown = self._counts, self._popularity, int(self._counts.sum())
        bits = -np.log2((popularity + 1) / (popularity.sum() + len(popularity)))
        found = {
            f"coverage@{self._k}": float((counts > 0).mean()),
            f"gini@{self._k}": gini(counts),
            f"novelty@{self._k}": float((bits * counts).sum() / shown) if shown else 0.0,
        }
        if self._diversity is not None:
            found[f"intra_list_diversity@{self._k}"] = self._diversity.mean()
        return found


def gini(counts: np.ndarray) -> float:
    """Returns the Gini coefficient of int[n]: half the mean difference of two of them, relative to their mean.

    For example 0 for (2, 2, 2), and 2/3 for (0, 0, 6).
    """
    in_order = np.sort(np.asarray(counts, np.float64))
    if not in_order.sum():
        return 0.0
    n = len(in_order)
    return float(((2 * np.arange(1, n + 1) - n - 1) @ in_order) / (n * in_order.sum()))


class _Diversity:
    """Mean over lists int[users, k] of the mean of 1 - cosine over pairs of items; -1 is an empty place.

    Lists of fewer than two items do not count; it is 0 if there are no others.
    """

    def __init__(self, embeddings: np.ndarray):
        self._embeddings = embeddings
        blocks = (embeddings[start : start + LISTS] for start in range(0, len(embeddings), LISTS))
        lengths = np.concatenate([np.linalg.norm(block, axis=1) for block in blocks])
        self._lengths = np.where(lengths > 0, lengths, 1)
        self._waiting: list[np.ndarray] = []  # fewer than LISTS lists
        self._total, self._users = 0.0, 0

    def add(self, lists: np.ndarray) -> None:
        """Counts further lists."""
        waiting = np.concatenate([*self._waiting, lists])
        whole = len(waiting) // LISTS * LISTS  # sums over equal blocks are equal, however lists are added
        for start in range(0, whole, LISTS):
            self._count(waiting[start : start + LISTS])
        self._waiting = [waiting[whole:]]

    def mean(self) -> float:
        """Returns the mean over all lists."""
        for lists in self._waiting:
            self._count(lists)
        self._waiting = []
        return self._total / self._users if self._users else 0.0

    def _count(self, lists: np.ndarray) -> None:
        unit = self._embeddings[lists] / self._lengths[lists][..., None]  # [users, k, width]
        vectors = np.where((lists >= 0)[..., None], unit, 0)
        n = (lists >= 0).sum(axis=1)
        # The squared length of a sum of vectors is the sum over all pairs, each vector with itself included.
        pairs = (vectors.sum(axis=1) ** 2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))
        some = n >= 2
        self._total += float((1 - pairs[some] / (n * (n - 1))[some]).sum())
        self._users += int(some.sum())


def table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Returns plain text with one line per metric and one column per model, and which direction is better."""
    names = next(iter(measured.values()))
    rows = [[name, *(of[name] for of in measured.values()), f"{better(name)} is better"] for name in names]
    return tables.text(rows, ["", *measured, ""]) + "\n"


def better(name: str) -> str:
    """Returns whether "higher" or "lower" is better for a metric that `measure` returned."""
    return BETTER[name.partition("@")[0]]
