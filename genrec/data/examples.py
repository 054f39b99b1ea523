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


def pack(
    rows: AbstractSequence[AbstractSequence[Segment]], tokens: Tokens, row_tokens: int, row_targets: int
) -> Examples:
    """Lays segments side by side, row by row.

    A segment of n items with first target f takes `tokens.length(n - 1)` tokens and n - f targets: the last item is
    only a target, so it is not encoded. Raises ValueError when a row does not fit.
    """
    shape, target_shape = (len(rows), row_tokens), (len(rows), row_targets)
    ids, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    targets = np.zeros((*target_shape, tokens.levels), np.int32)
    target_segments, target_positions = (np.zeros(target_shape, np.int32) for _ in range(2))
    for row, parts in enumerate(rows):
        at = at_target = 0
        for number, part in enumerate(parts, start=1):
            history = len(part.items) - 1
            end = at + tokens.length(history)
            end_target = at_target + len(part.items) - part.first_target
            if end > row_tokens or end_target > row_targets:
                raise ValueError(
                    f"row {row}: {end} tokens and {end_target} targets exceed {row_tokens} and {row_targets}"
                )
            if not part.causal and end_target != at_target + 1:
                raise ValueError("a bidirectional segment has the last item as its only target")
            first_item = at + tokens.prefix
            ids[row, at] = tokens.user(part.user_id)
            ids[row, first_item:end] = tokens.items[part.items[:-1]].reshape(-1)
            segments[row, at:end] = number
            targets[row, at_target:end_target] = tokens.items[part.items[part.first_target :]]
            target_segments[row, at_target:end_target] = number
            if part.causal:
                positions[row, first_item:end] = np.repeat(np.arange(1, history + 1), tokens.levels)
                target_positions[row, at_target:end_target] = np.arange(part.first_target, len(part.items))
            at, at_target = end, end_target
    return Examples(Histories(ids, segments, positions), targets, target_segments, target_positions)


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
    shape = (len(user_ids), tokens.length(max_history))
    ids, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    for row, (user_id, history) in enumerate(zip(user_ids, items, strict=True)):
        recent = np.asarray(history)[-max_history:]
        end = tokens.length(len(recent))
        ids[row, 0] = tokens.user(user_id)
        ids[row, tokens.prefix : end] = tokens.items[recent].reshape(-1)
        segments[row, :end] = 1
        if causal:
            positions[row, tokens.prefix : end] = np.repeat(np.arange(1, len(recent) + 1), tokens.levels)
    return Histories(ids, segments, positions)
