"""Beyond-accuracy metrics: coverage of the catalogue, Gini coefficient, novelty, intra-list diversity.

They are over the first `k` places of every list; empty places do not count. Novelty is defined as in Vargas & Castells
(RecSys 2011), intra-list similarity as in Ziegler et al. (WWW 2005).
"""

from collections.abc import Mapping

import numpy as np

from genrec import tables

BETTER = {"coverage": "higher", "gini": "lower", "novelty": "higher", "intra_list_diversity": "higher"}


def measure(recommended: np.ndarray, popularity: np.ndarray, embeddings: np.ndarray | None, k: int) -> dict[str, float]:
    """Returns the metrics of lists.

    Args:
      recommended: int[users, at least k], catalogue rows, -1 for an empty place.
      popularity: int[items], training interactions.
      embeddings: float32[items, width] of the items' content; None leaves the diversity out.
      k: places of a list that count.

    Returns:
      "coverage@k": share of the catalogue that is in some list. "gini@k": Gini coefficient of how often items are
      recommended, 0 if all are equally often, near 1 if it is always the same few. "novelty@k": mean of -log2 of an
      item's share of the training interactions (one added to every count), in bits. "intra_list_diversity@k": mean over
      lists of at least two items of 1 - cosine, over their pairs.
    """
    first = recommended[:, :k]
    shown = first[first >= 0]
    counts = np.bincount(shown, minlength=len(popularity))
    bits = -np.log2((popularity + 1) / (popularity.sum() + len(popularity)))
    figures = {
        f"coverage@{k}": float((counts > 0).mean()),
        f"gini@{k}": gini(counts),
        f"novelty@{k}": float(bits[shown].mean()) if len(shown) else 0.0,
    }
    if embeddings is not None:
        figures[f"intra_list_diversity@{k}"] = intra_list_diversity(first, embeddings)
    return figures


def gini(counts: np.ndarray) -> float:
    """Returns the Gini coefficient of int[n]: half the mean difference of two of them, relative to their mean.

    For example 0 for (2, 2, 2), and 2/3 for (0, 0, 6).
    """
    in_order = np.sort(np.asarray(counts, np.float64))
    if not in_order.sum():
        return 0.0
    n = len(in_order)
    return float(((2 * np.arange(1, n + 1) - n - 1) @ in_order) / (n * in_order.sum()))


def intra_list_diversity(lists: np.ndarray, embeddings: np.ndarray) -> float:
    """Returns the mean over lists int[users, k] of the mean of 1 - cosine over pairs of items.

    -1 is an empty place. Lists of fewer than two items do not count; it is 0 if there are no others.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.append(embeddings / np.where(lengths > 0, lengths, 1), np.zeros((1, embeddings.shape[1])), axis=0)
    total, users = 0.0, 0
    for start in range(0, len(lists), 1024):
        vectors = unit[lists[start : start + 1024]]  # [users, k, width]; -1 takes the row of zeros
        n = (lists[start : start + 1024] >= 0).sum(axis=1)
        # The squared length of a sum of vectors is the sum over all pairs, each vector with itself included.
        pairs = (vectors.sum(axis=1) ** 2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))
        some = n >= 2
        total += float((1 - pairs[some] / (n * (n - 1))[some]).sum())
        users += int(some.sum())
    return total / users if users else 0.0


def table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Returns plain text with one line per metric and one column per model, and which direction is better."""
    names = next(iter(measured.values()))
    rows = [[name, *(of[name] for of in measured.values()), f"{better(name)} is better"] for name in names]
    return tables.text(rows, ["", *measured, ""]) + "\n"


def better(name: str) -> str:
    """Returns whether "higher" or "lower" is better for a metric that `measure` returned."""
    return BETTER[name.partition("@")[0]]
