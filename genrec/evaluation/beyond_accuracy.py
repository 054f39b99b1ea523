"""What lists are like beside being right: how much of the catalogue they show, how evenly, how little known, how mixed.

All of the first `k` places of every list; what a list lacks counts nowhere. Definitions as in Vargas & Castells (RecSys
2011) for novelty and Ziegler et al. (WWW 2005) for intra-list similarity.
"""

from collections.abc import Mapping

import numpy as np


def measure(recommended: np.ndarray, popularity: np.ndarray, embeddings: np.ndarray | None, k: int) -> dict[str, float]:
    """Figures of lists.

    Args:
      recommended: int[users, at least k], catalogue rows, -1 where a list ends early.
      popularity: int[items], training interactions.
      embeddings: float32[items, width] of the items' content; None leaves the diversity out.
      k: places of a list that count.

    Returns:
      "coverage@k": share of the catalogue that stands in some list. "gini@k": of how often items are recommended, 0 if
      all are equally often, near 1 if few get everything. "novelty@k": mean of -log2 of an item's share of the training
      interactions (one added to every count), in bits. "intra_list_diversity@k": mean over lists of at least two items
      of 1 - cosine, over their pairs.
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
    """The Gini coefficient of int[n]: half the mean difference of two of them, relative to their mean.

    For example 0 for (2, 2, 2), and 2/3 for (0, 0, 6).
    """
    in_order = np.sort(np.asarray(counts, np.float64))
    if not in_order.sum():
        return 0.0
    n = len(in_order)
    return float(((2 * np.arange(1, n + 1) - n - 1) @ in_order) / (n * in_order.sum()))


def intra_list_diversity(lists: np.ndarray, embeddings: np.ndarray) -> float:
    """Mean over lists int[users, k] (-1: none) of the mean of 1 - cosine over pairs; 0 if no list has two items."""
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
    """Plain text: a line a figure, a column a model."""
    names = list(next(iter(measured.values())))
    lines = [f"{'':<28}" + "".join(f"{model:>16}" for model in measured)]
    lines += [f"{name:<28}" + "".join(f"{figures[name]:>16.4f}" for figures in measured.values()) for name in names]
    return "\n".join(lines) + "\n"
