"""Sequences of many lengths as flat arrays, from which a batch is gathered without a loop over its users."""

from typing import NamedTuple

import numpy as np

from genrec.data.dataset import Sequences
from genrec.data.timestamps import HOUR
from genrec.input_pipeline.examples import Tokenizer
from genrec.progress import progress

SEQUENCES_AT_ONCE = 8192
BYTES = 5  # per item, its hour included


class FlatSequences(NamedTuple):
    """Concatenated sequences: the items of sequence s are items[start[s] : start[s + 1]]."""

    users: np.ndarray  # int32[sequences], user tokens
    rows: np.ndarray  # int32[sequences], rows of the users table; -1 for users who are not in it
    items: np.ndarray  # int32[total], catalogue rows
    hours: np.ndarray  # uint8[total], hour of the day (UTC) at which each was chosen
    start: np.ndarray  # int64[sequences + 1]

    def take(self, indices: np.ndarray) -> "FlatSequences":
        """Returns the sequences at `indices`, with the same `items` and `hours`; `start` has no end."""
        return self._replace(users=self.users[indices], rows=self.rows[indices], start=self.start[indices])


def read(sequences: Sequences, indices: np.ndarray, tokenizer: Tokenizer) -> FlatSequences:
    """Reads the sequences at `indices`, int[n], in that order."""
    found = sequences.read(indices)
    items = np.concatenate([np.zeros(0, np.int32), *(sequence.items for sequence in found)])
    times = np.concatenate([np.zeros(0, np.int64), *(sequence.timestamps for sequence in found)])
    return FlatSequences(
        users=np.array([tokenizer.user(sequence.user_id) for sequence in found], np.int32),
        rows=np.array([tokenizer.user_features.row(sequence.user_id) for sequence in found], np.int32),
        items=items,
        hours=(times // HOUR % 24).astype(np.uint8),
        start=_starts(sequences.lengths[indices]),
    )


def load(sequences: Sequences, tokenizer: Tokenizer) -> FlatSequences:
    """Reads all sequences of a split, and shows progress."""
    start, count = _starts(sequences.lengths), len(sequences.lengths)
    users, rows = np.empty(count, np.int32), np.empty(count, np.int32)
    items, hours = np.empty(start[-1], np.int32), np.empty(start[-1], np.uint8)
    for first in progress(range(0, count, SEQUENCES_AT_ONCE), "load sequences"):
        stop = min(first + SEQUENCES_AT_ONCE, count)
        part, at = read(sequences, np.arange(first, stop), tokenizer), slice(start[first], start[stop])
        users[first:stop], rows[first:stop] = part.users, part.rows
        items[at], hours[at] = part.items, part.hours
    return FlatSequences(users, rows, items, hours, start)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
