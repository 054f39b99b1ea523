"""Blocks of sequences, as a dataset yields them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from genrec.data.splits import SequenceBlock


def block(users: Sequence[tuple[str, Sequence[int]]]) -> SequenceBlock:
    """Returns the block of some users, pairs of an id and items."""
    offsets = np.concatenate([[0], np.cumsum([len(items) for _, items in users])]).astype(np.int64)
    items = np.concatenate([np.zeros(0, np.int32), *(np.asarray(items, np.int32) for _, items in users)])
    return SequenceBlock(pa.array([user for user, _ in users], pa.string()), offsets, items)


def blocks(users: Sequence[tuple[str, Sequence[int]]], rows: int = 3) -> list[SequenceBlock]:
    """Returns the blocks of `rows` users each."""
    users = list(users)
    return [block(users[start : start + rows]) for start in range(0, len(users), rows)]
