"""Recall, NDCG and MRR from the ranks of the target items.

Each user has one target, so recall@k is the share of users whose target is among the first k, NDCG@k is
1 / log2(rank + 1) averaged over users, and MRR@k is 1 / rank averaged over users; a target beyond k counts 0. A rank is
the place of the item itself: another item with the same learned codes is no hit.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

NAMES = ("recall", "ndcg", "mrr")


def compute(ranks: ArrayLike, cutoffs: Sequence[int]) -> dict[str, float]:
    """Returns the metrics over all users.

    For example the ranks (1, 3, 0, 12) give recall@10 = 2/4, ndcg@10 = (1 + 1/2)/4 and mrr@10 = (1 + 1/3)/4.

    Args:
      ranks: int[users], 1 is the first place; 0 where the target is not in the list.
      cutoffs: list lengths k, at least 1 each.

    Returns:
      "recall@k", "ndcg@k" and "mrr@k" for each cutoff, between 0 and 1.

    Raises:
      ValueError: if there are no users, a rank is negative, or a cutoff is below 1.
    """
    ranks = np.asarray(ranks)
    if not ranks.size:
        raise ValueError("metrics need the rank of at least one user")
    if (ranks < 0).any():
        raise ValueError(f"ranks count from 1, and 0 marks a missing target; got {ranks.min()}")
    if any(cutoff < 1 for cutoff in cutoffs):
        raise ValueError(f"cutoffs are list lengths of at least 1; got {tuple(cutoffs)}")
    values: dict[str, float] = {}
    for cutoff in cutoffs:
        hits = ranks[(ranks >= 1) & (ranks <= cutoff)].astype(np.float64)
        sums = (len(hits), (1 / np.log2(hits + 1)).sum(), (1 / hits).sum())
        values |= {f"{name}@{cutoff}": float(total / ranks.size) for name, total in zip(NAMES, sums, strict=True)}
    return values


def shown_cutoff(cutoffs: Iterable[int], limit: int = 10) -> int:
    """Returns the cutoff of tables and charts that show one: the largest up to `limit`, else the smallest."""
    ordered = sorted(cutoffs)
    return max((cutoff for cutoff in ordered if cutoff <= limit), default=ordered[0])


def cutoffs_of(metrics: Iterable[str]) -> tuple[int, ...]:
    """Returns the cutoffs of the names of metrics, ascending."""
    return tuple(sorted({int(name.partition("@")[2]) for name in metrics}))


def distinct(names: Iterable[str]) -> list[str]:
    """Returns the names of metrics without ndcg@1 and mrr@1, which equal recall@1."""
    return [name for name in names if name not in ("ndcg@1", "mrr@1")]
