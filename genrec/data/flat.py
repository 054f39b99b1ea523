"""Sequences of many lengths as flat arrays, so that a batch is gathered without a loop over its users."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from genrec.data.dataset import Sequence
from genrec.progress import progress

RECORDS_AT_ONCE = 8192


class Records(Protocol):
    """What is needed of the records of a split (`dataset.Sequences`)."""

    lengths: np.ndarray  # int32[records]

    def read(self, indices: np.ndarray) -> list[Sequence]: ...


class FlatSequences(NamedTuple):
    """Records laid end to end: those of record r are items[start[r] : start[r + 1]]."""

    users: np.ndarray  # int32[records], user tokens
    items: np.ndarray  # int32[total], catalogue rows
    start: np.ndarray  # int64[records + 1]


def read(sequences: Records, records: np.ndarray, user_token: Callable[[str], int]) -> FlatSequences:
    """The records with the numbers `records`, int[n], in that order; `user_token` makes a token of a user id.

    Shows progress when it takes a while.
    """
    start = np.concatenate([[0], np.cumsum(sequences.lengths[records], dtype=np.int64)])
    flat = FlatSequences(np.empty(len(records), np.int32), np.empty(start[-1], np.int32), start)
    chunks = range(0, len(records), RECORDS_AT_ONCE)
    for first in progress(chunks, "load sequences") if len(chunks) > 1 else chunks:
        found = sequences.read(records[first : first + RECORDS_AT_ONCE])
        end = first + len(found)
        flat.users[first:end] = [user_token(record.user_id) for record in found]
        np.concatenate([record.items for record in found], out=flat.items[start[first] : start[end]])
    return flat
