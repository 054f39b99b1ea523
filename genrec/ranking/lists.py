"""Ranked lists, and the interface of the sources that propose them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from genrec.data import dataset as datasets

CHUNK = 8192  # sequences read at a time
GENERATOR, POPULAR, KNN, TRANSITIONS, SASREC = "generator", "most popular", "item-kNN", "transitions", "SASRec"
MULTI_STAGE = "multi-stage"  # the recommender that combines them

# Items int[n], catalogue rows, and their scores float32[n].
ScoredItems = tuple[np.ndarray, np.ndarray]


class Lists(NamedTuple):
    """One ranked list per user, best first; item -1 and score -inf where a list ends early."""

    items: np.ndarray  # int32[users, top], catalogue rows
    scores: np.ndarray  # float32[users, top], descending; comparable within a list


class Source(Protocol):
    """Proposes items for histories: most popular, item-kNN, SASRec, the generator, or a multi-stage recommender."""

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the `top` items for each user; `histories` are catalogue rows int[n], oldest first.

        `exclude` are the catalogue rows int[n] that each list leaves out: the next best take their places.
        """


class Scorer(Protocol):
    """Scores items after histories; `ranked` makes lists of the scores."""

    def scored(self, histories: Sequence[np.ndarray]) -> Iterator[ScoredItems]:
        """Yields the items that have a score after each history, catalogue rows int[n], oldest first."""


def ranked(scored: Iterable[ScoredItems], users: int, top: int, eligible: Iterable[np.ndarray | None]) -> Lists:
    """Returns the `top` of the scored items of each user, of those that are True in `eligible` bool[items], if any."""
    found = Lists(np.full((users, top), -1, np.int32), np.full((users, top), -np.inf, np.float32))
    for row, ((items, scores), mask) in enumerate(zip(scored, eligible, strict=False)):
        if mask is not None:
            kept = mask[items]
            items, scores = items[kept], scores[kept]
        items, scores = best(scores, items, top)
        found.items[row, : len(items)], found.scores[row, : len(items)] = items, scores
    return found


def outside(exclude: Sequence[np.ndarray] | None, items: int) -> Iterable[np.ndarray | None]:
    """Yields bool[items] for each catalogue rows int[n] of `exclude`, False for those; without `exclude`, None."""
    if exclude is None:
        yield from itertools.repeat(None)
        return
    for rows in exclude:
        mask = np.ones(items, bool)
        mask[rows] = False
        yield mask


def best(scores: np.ndarray, items: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `top` items int[top] and their scores, best first with ties in catalogue order.

    `scores` float[n] are those of `items` int[n]; fewer are returned if n is less than `top`.
    """
    if len(items) > 4 * top:
        # All ties with the last place are kept, so that the catalogue order decides among them.
        enough = scores >= np.partition(scores, len(scores) - top)[len(scores) - top]
        scores, items = scores[enough], items[enough]
    order = np.lexsort((items, -scores))[:top]
    return items[order], scores[order]


def without(lists: Lists, exclude: Sequence[np.ndarray], top: int) -> Lists:
    """Returns the first `top` items of each list that are not among its catalogue rows int[n] of `exclude`.

    Only lists that are longer than `top` by the length of their `exclude` are sure to stay full.
    """
    kept = Lists(np.full((len(exclude), top), -1, np.int32), np.full((len(exclude), top), -np.inf, np.float32))
    for user, excluded in enumerate(exclude):
        items = lists.items[user]
        places = np.flatnonzero((items >= 0) & ~np.isin(items, excluded))[:top]
        kept.items[user, : len(places)], kept.scores[user, : len(places)] = items[places], lists.scores[user, places]
    return kept


def read_chunks(sequences: datasets.Sequences) -> Iterator[list[datasets.Sequence]]:
    """Yields all sequences of a split, CHUNK at a time."""
    for start in range(0, len(sequences), CHUNK):
        yield sequences.read(np.arange(start, min(start + CHUNK, len(sequences))))
