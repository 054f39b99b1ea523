"""Ranked lists, and what proposes them: the common shape of every retrieval and ranking method."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from genrec.data import dataset as datasets

CHUNK = 8192  # records read at a time


class Lists(NamedTuple):
    """One list a user, best first; item -1 and score -inf where a list ends early."""

    items: np.ndarray  # int32[users, top], catalogue rows
    scores: np.ndarray  # float32[users, top], comparable within a list; falling


class Source(Protocol):
    """Proposes items for histories: most popular, item-kNN, SASRec, the generator, or several of them together."""

    def recommend(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Lists:
        """The `top` items for each user; `histories` are catalogue rows int[n], oldest first."""


def best(scores: np.ndarray, items: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top` of some scored items (float[n], int[n]): items and scores, best first, ties in catalogue order."""
    if len(items) > 4 * top:
        # Whatever ties with the last place stays, so that the catalogue's order decides among those.
        enough = scores >= np.partition(scores, len(scores) - top)[len(scores) - top]
        scores, items = scores[enough], items[enough]
    order = np.lexsort((items, -scores))[:top]
    return items[order], scores[order]


def records(sequences: datasets.Sequences) -> Iterator[list[datasets.Sequence]]:
    """All records of a split, some at a time."""
    for start in range(0, len(sequences), CHUNK):
        yield sequences.read(np.arange(start, min(start + CHUNK, len(sequences))))
