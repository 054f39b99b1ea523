"""First stage of the pipeline: the candidates of several sources together, each with what every source says of it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from genrec.ranking.lists import Lists


class Candidates(NamedTuple):
    """The items that any source proposed, each once a user, in catalogue order; -1 where a user has fewer."""

    items: np.ndarray  # int32[users, candidates], catalogue rows
    scores: dict[str, np.ndarray]  # float32[users, candidates] of each source or ranker; NaN where it says nothing


def together(lists: Mapping[str, Lists], items: int) -> Candidates:
    """The union of lists of the same users, by the names of their sources; `items` is the size of the catalogue.

    For example the lists (5, 2) of "a" and (2, 7) of "b" make the candidates (2, 5, 7), of which "a" knows nothing of 7
    and "b" nothing of 5.
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
