"""Sequences of many lengths as flat arrays, so that a batch is gathered without a loop over its users."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genrec.data.dataset import Sequences
from genrec.progress import progress

RECORDS_AT_ONCE = 8192


class FlatSequences(NamedTuple):
    """Records laid end to end: the items of record r are items[start[r] : start[r + 1]]."""

    users: np.ndarray  # int32[records], user tokens
    items: np.ndarray  # int32[total], catalogue rows
    start: np.ndarray  # int64[records + 1]


def read(sequences: Sequences, records: np.ndarray, user_token: Callable[[str], int]) -> FlatSequences:
    """The records with the numbers `records`, int[n], in that order; `user_token` makes a token of a user id."""
    found = sequences.read(records)
    users = np.array([user_token(record.user_id) for record in found], np.int32)
    items = np.concatenate([np.zeros(0, np.int32), *(record.items for record in found)])
    return FlatSequences(users, items, _starts(sequences.lengths[records]))


def load(sequences: Sequences, user_token: Callable[[str], int]) -> FlatSequences:
    """All records of a split, as `read` gives them; shows progress."""
    start, records = _starts(sequences.lengths), len(sequences.lengths)
    flat = FlatSequences(np.empty(records, np.int32), np.empty(start[-1], np.int32), start)
    for first in progress(range(0, records, RECORDS_AT_ONCE), "load sequences"):
        stop = min(first + RECORDS_AT_ONCE, records)
        part = read(sequences, np.arange(first, stop), user_token)
        flat.users[first:stop] = part.users
        flat.items[start[first] : start[stop]] = part.items
    return flat


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
