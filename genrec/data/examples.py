"""What the model reads: histories and targets as token arrays.

A user is a *prefix* (so far one token, a hash of the user id) followed by the history, item after item, as many tokens
per item as the semantic ID has levels. Several users share a row; every token says whose it is and where it stands:

* `segments` 0 is padding, 1, 2, ... are the users (or parts of users) of the row;
* `positions` 0 is the prefix, j is the j-th item. A token sees the tokens of its segment at positions up to its own,
  and a target at position t sees positions up to t: it is the item after the t-th. All positions 0 therefore means a
  bidirectional encoder with one target, the setting of the TIGER paper.
"""

import hashlib
from collections.abc import Sequence as AbstractSequence
from typing import NamedTuple

import numpy as np


class Histories(NamedTuple):
    """Encoder input, `rows` by `tokens`."""

    tokens: np.ndarray  # int32[rows, tokens]
    segments: np.ndarray  # int32[rows, tokens]
    positions: np.ndarray  # int32[rows, tokens]


class Examples(NamedTuple):
    """Histories with the items to predict."""

    histories: Histories
    targets: np.ndarray  # int32[rows, targets, levels], tokens of the target items
    target_segments: np.ndarray  # int32[rows, targets]; 0 is padding
    target_positions: np.ndarray  # int32[rows, targets]


class Segment(NamedTuple):
    """One user's part of a row: `items` are catalogue rows, oldest first."""

    user_id: str
    items: np.ndarray  # int32[n]: history and targets
    first_target: int  # items[first_target:] are targets; each is predicted from the items before it
    causal: bool  # False: every token of the segment sees all others, which allows the last item alone as a target


class Tokens(NamedTuple):
    """How users and items become tokens."""

    items: np.ndarray  # int32[items, levels], of every catalogue row
    first_user: int  # the vocabulary's first user token
    users: int  # number of user tokens

    @property
    def levels(self) -> int:
        return self.items.shape[1]

    @property
    def prefix(self) -> int:
        """Tokens before the first item."""
        return 1

    def user(self, user_id: str) -> int:
        """The user's token: a hash that is the same in every process and on every machine."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
        return self.first_user + int.from_bytes(digest, "little") % self.users

    def length(self, items: int | np.ndarray) -> int | np.ndarray:
        """Encoder tokens of a user with that many history items."""
        return self.prefix + self.levels * items


class PlacedSegments(NamedTuple):
    """Segments in rows, as parallel arrays; those of a row stand next to each other, in the order of the rows.

    A segment's items are items[first_item : first_item + length] of an array that goes with this.
    """

    row: np.ndarray  # int64[segments], ascending
    user: np.ndarray  # int32[segments], user tokens
    first_item: np.ndarray  # int64[segments]
    length: np.ndarray  # int64[segments], items: history and targets
    first_target: np.ndarray  # int64[segments], counted from first_item
    causal: np.ndarray  # bool[segments]


def lay_out(
    placed: PlacedSegments, items: np.ndarray, tokens: Tokens, rows: int, row_tokens: int, row_targets: int
) -> Examples:
    """Lays segments side by side in `rows` rows, of which some may stay empty; `items` is int32[n], catalogue rows.

    A segment of n items with first target f takes `tokens.length(n - 1)` tokens and n - f targets: the last item is
    only a target, so it is not encoded. Raises ValueError when a row does not fit.
    """
    history, targets = placed.length - 1, placed.length - placed.first_target
    first_of_row = np.searchsorted(placed.row, placed.row)
    number = (np.arange(len(placed.row)) - first_of_row + 1).astype(np.int32)
    at, at_target = (_within_row(sizes, first_of_row) for sizes in (tokens.length(history), targets))
    _check_fit(placed, at + tokens.length(history), at_target + targets, row_tokens, row_targets)

    ids, segments, positions = (np.zeros(rows * row_tokens, np.int32) for _ in range(3))
    at = placed.row * row_tokens + at
    ids[at], segments[at] = placed.user, number
    item = ranges(0, history)  # of its segment
    at_item = np.repeat(at + tokens.prefix, history) + tokens.levels * item
    at_code = at_item[:, None] + np.arange(tokens.levels)  # [history items, levels]
    ids[at_code] = tokens.items[items[np.repeat(placed.first_item, history) + item]]
    segments[at_code] = np.repeat(number, history)[:, None]
    positions[at_code] = (np.repeat(placed.causal, history) * (item + 1))[:, None]

    target_ids = np.zeros((rows * row_targets, tokens.levels), np.int32)
    target_segments, target_positions = (np.zeros(rows * row_targets, np.int32) for _ in range(2))
    at_target = ranges(placed.row * row_targets + at_target, targets)
    target = ranges(placed.first_target, targets)
    target_ids[at_target] = tokens.items[items[np.repeat(placed.first_item, targets) + target]]
    target_segments[at_target] = np.repeat(number, targets)
    target_positions[at_target] = np.repeat(placed.causal, targets) * target
    return Examples(
        Histories(*(array.reshape(rows, row_tokens) for array in (ids, segments, positions))),
        target_ids.reshape(rows, row_targets, tokens.levels),
        target_segments.reshape(rows, row_targets),
        target_positions.reshape(rows, row_targets),
    )


def _within_row(sizes: np.ndarray, first_of_row: np.ndarray) -> np.ndarray:
    """int64[segments]: where each segment begins in its row; `first_of_row` is the first segment of the same row."""
    begin = np.cumsum(sizes) - sizes
    return begin - begin[first_of_row]


def _check_fit(
    placed: PlacedSegments, end: np.ndarray, end_target: np.ndarray, row_tokens: int, row_targets: int
) -> None:
    too_long = (end > row_tokens) | (end_target > row_targets)
    if too_long.any():
        worst = np.argmax(too_long)
        raise ValueError(
            f"row {placed.row[worst]}: {end[worst]} tokens and {end_target[worst]} targets exceed {row_tokens} and "
            f"{row_targets}"
        )
    if (~placed.causal & (placed.first_target != placed.length - 1)).any():
        raise ValueError("a bidirectional segment has the last item as its only target")


def pack(
    rows: AbstractSequence[AbstractSequence[Segment]], tokens: Tokens, row_tokens: int, row_targets: int
) -> Examples:
    """`lay_out` of segments that are given one by one, row by row."""
    parts = [part for row in rows for part in row]
    length = np.array([len(part.items) for part in parts], np.int64)
    placed = PlacedSegments(
        row=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
        user=np.array([tokens.user(part.user_id) for part in parts], np.int32),
        first_item=np.cumsum(length) - length,
        length=length,
        first_target=np.array([part.first_target for part in parts], np.int64),
        causal=np.array([part.causal for part in parts], bool),
    )
    items = np.concatenate([part.items for part in parts]) if parts else np.zeros(0, np.int32)
    return lay_out(placed, items, tokens, len(rows), row_tokens, row_targets)


def histories(
    user_ids: AbstractSequence[str],
    items: AbstractSequence[np.ndarray],
    tokens: Tokens,
    max_history: int,
    causal: bool = True,
) -> Histories:
    """One user a row, each with the last `max_history` of its items (int32 catalogue rows, oldest first), padded at
    the end.

    `causal` must be what the model was trained with (`Training.targets` "every": True, "last": False).
    """
    recent = [np.asarray(history, np.int32)[-max_history:] for history in items]
    # The item that comes next is not encoded: any will do in its place.
    rows = [
        [Segment(user_id, np.append(history, np.int32(0)), len(history), causal)]
        for user_id, history in zip(user_ids, recent, strict=True)
    ]
    return pack(rows, tokens, tokens.length(max_history), 1).histories


def ranges(start: np.ndarray | int, count: np.ndarray) -> np.ndarray:
    """int64[sum of count]: the numbers from start[i] to start[i] + count[i] - 1, for each i in turn.

    For example the starts (5, 0) with the counts (2, 3) give 5, 6, 0, 1, 2.
    """
    return np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
