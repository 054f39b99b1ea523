"""Sequences of many lengths as flat arrays, so that a batch is gathered without a loop over its users."""

from typing import NamedTuple

import numpy as np

from genrec.data.dataset import Sequences
from genrec.input_pipeline.examples import Tokenizer
from genrec.progress import progress

RECORDS_AT_ONCE = 8192
SECONDS_AN_HOUR = 3600
BYTES = 5  # of an item, with its hour


class FlatSequences(NamedTuple):
    """Records laid end to end: the items of record r are items[start[r] : start[r + 1]]."""

    users: np.ndarray  # int32[records], user tokens
    rows: np.ndarray  # int32[records], rows of the users table; -1 for users who are not in it
    items: np.ndarray  # int32[total], catalogue rows
    hours: np.ndarray  # uint8[total], of the day (UTC), when each was chosen
    start: np.ndarray  # int64[records + 1]


def read(sequences: Sequences, records: np.ndarray, tokenizer: Tokenizer) -> FlatSequences:
    """The records with the numbers `records`, int[n], in that order; `tokens` makes tokens and rows of user ids."""
    found = sequences.read(records)
    users = np.array([tokenizer.user(record.user_id) for record in found], np.int32)
    rows = np.array([tokenizer.known.row(record.user_id) for record in found], np.int32)
    items = np.concatenate([np.zeros(0, np.int32), *(record.items for record in found)])
    times = np.concatenate([np.zeros(0, np.int64), *(record.timestamps for record in found)])
    hours = (times // SECONDS_AN_HOUR % 24).astype(np.uint8)
    return FlatSequences(users, rows, items, hours, _starts(sequences.lengths[records]))


def load(sequences: Sequences, tokenizer: Tokenizer) -> FlatSequences:
    """All records of a split, as `read` gives them; shows progress."""
    start, records = _starts(sequences.lengths), len(sequences.lengths)
    users, rows = np.empty(records, np.int32), np.empty(records, np.int32)
    flat = FlatSequences(users, rows, np.empty(start[-1], np.int32), np.empty(start[-1], np.uint8), start)
    for first in progress(range(0, records, RECORDS_AT_ONCE), "load sequences"):
        stop = min(first + RECORDS_AT_ONCE, records)
        part = read(sequences, np.arange(first, stop), tokenizer)
        flat.users[first:stop], flat.rows[first:stop] = part.users, part.rows
        at = slice(start[first], start[stop])
        flat.items[at], flat.hours[at] = part.items, part.hours
    return flat


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
