"""Candidate generation, the first stage of a multi-stage recommender: the union of the lists of several sources."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from genrec.ranking.lists import Lists


class Candidates(NamedTuple):
    """The distinct candidates of each user in catalogue order; -1 where a user has fewer than others."""

    items: np.ndarray  # int32[users, candidates], catalogue rows
    scores: dict[str, np.ndarray]  # float32[users, candidates] of each source or ranker; NaN where it gives none
    features: Mapping[str, np.ndarray] = MappingProxyType({})  # float32[users, candidates] that the ranker reads


def merge(lists: Mapping[str, Lists], items: int) -> Candidates:
    """Returns the union of the lists of each user, by source name; `items` is the size of the catalogue.

    For example the lists (5, 2) of "a" and (2, 7) of "b" give the candidates (2, 5, 7), where "a" has no score for 7
    and "b" none for 5.
    """
    users = len(next(iter(lists.values())).items)
    keys = {}  # of each source: user * items + item, for all places of all lists
    for name, of_source in lists.items():
        users_of_places, _ = np.nonzero(of_source.items >= 0)
        keys[name] = users_of_places * np.int64(items) + of_source.items[of_source.items >= 0]
    every = np.unique(np.concatenate(list(keys.values())))
    owner = every // items
    counts = np.bincount(owner, minlength=users)
    column = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((users, max(1, int(counts.max(initial=0)))), -1, np.int32)
    found[owner, column] = every % items
    scores = {}
    for name, of_source in lists.items():
        place = np.searchsorted(every, keys[name])
        scores[name] = np.full(found.shape, np.nan, np.float32)
        scores[name][owner[place], column[place]] = of_source.scores[of_source.items >= 0]
    return Candidates(found, scores)
