"""What the model reads: histories and targets as token arrays.

A user is a *prefix* followed by the history, item after item, as many tokens per item as the semantic ID has levels.
The prefix holds, each where it is known, soft tokens, features, the pieces of a prompt, and a hash of the user id:

    [soft tokens][features][prompt][user] [item 1] [item 2] ...

Several users share a row; every token says whose it is and where it stands:

* `segments` 0 is padding, 1, 2, ... are the users (or parts of users) of the row;
* `positions` 0 is the prefix, j is the j-th item. A token sees the tokens of its segment at positions up to its own,
  and a target at position t sees positions up to t: it is the item after the t-th. All positions 0 therefore means a
  bidirectional encoder with one target, the setting of the TIGER paper.
"""

import hashlib
from collections.abc import Sequence as AbstractSequence
from typing import NamedTuple

import numpy as np

from genrec.errors import GenrecError
from genrec.input_pipeline.context import ABSENT, ALL, NO_OVERRIDES, Context, RequestContext, Users
from genrec.input_pipeline.vocabulary import Vocabulary

SERVED_PROMPT = 6  # a prompt may be so many times longer in serving than in training
NOBODY = ""  # the user of a text that is written
NO_USERS = Users(Context(), None)
NO_ITEMS = np.zeros(0, np.int32)


class SoftInputs(NamedTuple):
    """The vectors of one kind in a batch, and where the tokens go that an adapter makes of them."""

    vectors: np.ndarray  # float32[rows, places, width]
    places: np.ndarray  # int32[rows, places], the first token of each in its row; beyond the row where there is none


class Histories(NamedTuple):
    """Encoder input, `rows` by `tokens`."""

    tokens: np.ndarray  # int32[rows, tokens]
    segments: np.ndarray  # int32[rows, tokens]
    positions: np.ndarray  # int32[rows, tokens]
    soft: tuple[SoftInputs, ...] = ()  # of each vector that the model knows


class Texts(NamedTuple):
    """Histories with a text for each to be written."""

    histories: Histories  # one segment a row
    pieces: np.ndarray  # int32[rows, longest], from 0; -1 is padding
    kinds: np.ndarray  # int32[rows], which text it is


class Examples(NamedTuple):
    """Histories with the items to predict."""

    histories: Histories
    targets: np.ndarray  # int32[rows, targets, levels], tokens of the target items
    target_segments: np.ndarray  # int32[rows, targets]; 0 is padding
    target_positions: np.ndarray  # int32[rows, targets]
    weights: np.ndarray | None = None  # float32[rows, targets], in the loss; None: 1 for all
    texts: Texts | None = None  # rows of their own


class Segment(NamedTuple):
    """One user's part of a row: `items` are catalogue rows, oldest first."""

    user_id: str
    items: np.ndarray  # int32[n]: history and targets
    first_target: int  # items[first_target:] are targets; each is predicted from the items before it
    causal: bool  # False: every token of the segment sees all others, which allows the last item alone as a target
    request_context: RequestContext = NO_OVERRIDES
    earlier: np.ndarray = NO_ITEMS  # items before `items`, for a summary


class Tokenizer(NamedTuple):
    """How users and items become tokens: codes, users, codes of features, soft tokens, pieces, kinds of texts."""

    items: np.ndarray  # int32[items, levels], of every catalogue row
    first_user: int  # the vocabulary's first user token
    users: int  # number of user tokens
    known: Users = NO_USERS  # what is known of users
    vocabulary: Vocabulary | None = None  # of prompts and texts
    longest_prompt: int = 0  # pieces, in training
    # bool[pieces], those that training has: the others have random vectors, and are better not read. None: all.
    trained_pieces: np.ndarray | None = None

    @property
    def levels(self) -> int:
        return self.items.shape[1]

    @property
    def context(self) -> Context:
        return self.known.context

    @property
    def prefix(self) -> int:
        """Tokens before the first item at most, without a prompt."""
        return 1 + len(self.context.features) + self.context.soft_tokens

    @property
    def first_feature(self) -> int:
        return self.first_user + self.users

    @property
    def first_piece(self) -> int:
        return self.first_feature + self.context.vocabulary

    def user(self, user_id: str) -> int:
        """The user's token: a hash that is the same in every process and on every machine."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
        return self.first_user + int.from_bytes(digest, "little") % self.users

    def length(self, items: int | np.ndarray) -> int | np.ndarray:
        """Encoder tokens of a user with that many history items, at most, without a prompt."""
        return self.prefix + self.levels * items

    @property
    def longest_served_prompt(self) -> int:
        """Pieces that a prompt may have in serving."""
        return SERVED_PROMPT * self.longest_prompt

    def prompt(self, text: str, serving: bool = True) -> np.ndarray:
        """int32[n], the pieces of a prompt that training has had, cut where it is too long.

        Raises PromptError for a prompt to a model that takes none, and in serving for one that would have to be cut.
        """
        text = " ".join(text.split())
        if not text:
            return np.zeros(0, np.int32)
        if self.vocabulary is None:
            raise PromptError("the model knows no words: it was trained without prompts (config.prompts.columns)")
        pieces, longest = self.vocabulary.encode(text), self.longest_served_prompt if serving else self.longest_prompt
        if self.trained_pieces is not None:
            pieces = pieces[self.trained_pieces[pieces]]
        if serving and len(pieces) > longest:
            raise PromptError(
                f"a prompt of {len(text):,} characters is {len(pieces):,} pieces long; at most {longest} can be read. "
                f"Shorten it to what matters: {text[:60]!r} ..."
            )
        return pieces[:longest]


class PromptError(GenrecError):
    """A prompt that the model cannot read."""


class PlacedSegments(NamedTuple):
    """Segments in rows, as parallel arrays; those of a row stand next to each other, in the order of the rows.

    A segment's items are items[first_item : first_item + length] of an array that goes with this.
    """

    row: np.ndarray  # int64[segments], ascending
    prefix: np.ndarray  # int32[segments, n], tokens as `prefix_tokens` makes them; -1 where there is none
    vectors: tuple[np.ndarray, ...]  # of each kind float32[segments, width]
    first_item: np.ndarray  # int64[segments]
    length: np.ndarray  # int64[segments], items: history and targets
    first_target: np.ndarray  # int64[segments], counted from first_item
    causal: np.ndarray  # bool[segments]
    weight: np.ndarray | None = None  # float32[segments], of the targets in the loss


def prefix_tokens(
    tokenizer: Tokenizer, users: np.ndarray, codes: np.ndarray, there: np.ndarray, prompts: AbstractSequence[np.ndarray]
) -> np.ndarray:
    """int32[segments, n]: the prefix of each segment, -1 where a part is absent.

    `users` int32[segments] are user tokens, `codes` int32[segments, features], `there` bool[segments, vectors] says
    which vectors are known, `prompts` are pieces int32[n] of each segment.
    """
    context, segments = tokenizer.context, len(users)
    soft = tokenizer.first_feature + context.codes + np.arange(context.soft_tokens)
    known = np.repeat(there, [soft.tokens for soft in context.soft], axis=1)
    first = tokenizer.first_feature + np.cumsum([0, *(feature.size for feature in context.features)])[:-1]
    longest = max(map(len, prompts), default=0)
    said = np.full((segments, longest), -1, np.int32)
    for segment, pieces in enumerate(prompts):
        said[segment, : len(pieces)] = tokenizer.first_piece + pieces
    parts = [
        np.where(known, soft, -1),
        np.where(codes == ABSENT, -1, first.astype(np.int32) + codes),
        said,
        users[:, None],
    ]
    return np.concatenate(parts, axis=1).astype(np.int32)


def lay_out(
    placed: PlacedSegments,
    items: np.ndarray,
    tokenizer: Tokenizer,
    rows: int,
    row_tokens: int,
    row_targets: int,
    row_segments: int,
) -> Examples:
    """Lays segments side by side in `rows` rows, of which some may stay empty; `items` is int32[n], catalogue rows.

    A segment of n items with first target f takes its prefix, `levels` tokens for each of n - 1 items, and n - f
    targets: the last item is only a target, so it is not encoded. `row_segments` is the most segments of a row.
    Raises ValueError when a row does not fit.
    """
    there = placed.prefix >= 0
    prefix = there.sum(axis=1)
    history, targets = placed.length - 1, placed.length - placed.first_target
    size = prefix + tokenizer.levels * history
    first_of_row = np.searchsorted(placed.row, placed.row)
    number = (np.arange(len(placed.row)) - first_of_row + 1).astype(np.int32)
    at, at_target = (_within_row(sizes, first_of_row) for sizes in (size, targets))
    _check_fit(placed, at + size, at_target + targets, row_tokens, row_targets)

    ids, segments, positions = (np.zeros(rows * row_tokens, np.int32) for _ in range(3))
    soft = _soft_inputs(placed, tokenizer.context, number, at, rows, row_tokens, row_segments)
    at = placed.row * row_tokens + at
    at_prefix = ranges(at, prefix)
    ids[at_prefix], segments[at_prefix] = placed.prefix[there], np.repeat(number, prefix)
    item = ranges(0, history)  # of its segment
    at_item = np.repeat(at + prefix, history) + tokenizer.levels * item
    at_code = at_item[:, None] + np.arange(tokenizer.levels)  # [history items, levels]
    ids[at_code] = tokenizer.items[items[np.repeat(placed.first_item, history) + item]]
    segments[at_code] = np.repeat(number, history)[:, None]
    positions[at_code] = (np.repeat(placed.causal, history) * (item + 1))[:, None]

    target_ids = np.zeros((rows * row_targets, tokenizer.levels), np.int32)
    target_segments, target_positions = (np.zeros(rows * row_targets, np.int32) for _ in range(2))
    at_target = ranges(placed.row * row_targets + at_target, targets)
    target = ranges(placed.first_target, targets)
    target_ids[at_target] = tokenizer.items[items[np.repeat(placed.first_item, targets) + target]]
    target_segments[at_target] = np.repeat(number, targets)
    target_positions[at_target] = np.repeat(placed.causal, targets) * target
    weights = None
    if placed.weight is not None:
        weights = np.zeros(rows * row_targets, np.float32)
        weights[at_target] = np.repeat(placed.weight, targets)
        weights = weights.reshape(rows, row_targets)
    return Examples(
        Histories(*(array.reshape(rows, row_tokens) for array in (ids, segments, positions)), soft),
        target_ids.reshape(rows, row_targets, tokenizer.levels),
        target_segments.reshape(rows, row_targets),
        target_positions.reshape(rows, row_targets),
        weights,
    )


def _soft_inputs(
    placed: PlacedSegments,
    context: Context,
    number: np.ndarray,
    at: np.ndarray,
    rows: int,
    row_tokens: int,
    row_segments: int,
) -> tuple[SoftInputs, ...]:
    """The vectors in the order of their segments; soft tokens come first in a prefix, those of absent vectors not."""
    made, first, column = [], np.zeros(len(placed.row), np.int64), 0
    for soft, vectors in zip(context.soft, placed.vectors, strict=True):
        known = placed.prefix[:, column] >= 0
        inputs = SoftInputs(
            np.zeros((rows, row_segments, soft.width), np.float32),
            np.full((rows, row_segments), row_tokens, np.int32),
        )
        chosen = placed.row[known], number[known] - 1
        inputs.vectors[chosen], inputs.places[chosen] = vectors[known], (at + first)[known]
        made.append(inputs)
        first, column = first + known * soft.tokens, column + soft.tokens
    return tuple(made)


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
    rows: AbstractSequence[AbstractSequence[Segment]], tokenizer: Tokenizer, row_tokens: int, row_targets: int
) -> Examples:
    """`lay_out` of segments that are given one by one, row by row."""
    placed, items = _place(rows, tokenizer)
    most = max(map(len, rows), default=1)
    return lay_out(placed, items, tokenizer, len(rows), row_tokens, row_targets, most)


def _place(
    rows: AbstractSequence[AbstractSequence[Segment]], tokenizer: Tokenizer
) -> tuple[PlacedSegments, np.ndarray]:
    """Segments that are given one by one, and their items end to end, int32[n]."""
    parts = [part for row in rows for part in row]
    length = np.array([len(part.items) for part in parts], np.int64)
    prefix, vectors = _prefixes(parts, tokenizer)
    placed = PlacedSegments(
        row=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
        prefix=prefix,
        vectors=vectors,
        first_item=np.cumsum(length) - length,
        length=length,
        first_target=np.array([part.first_target for part in parts], np.int64),
        causal=np.array([part.causal for part in parts], bool),
    )
    return placed, np.concatenate([NO_ITEMS, *(part.items for part in parts)])


def _prefixes(parts: AbstractSequence[Segment], tokenizer: Tokenizer) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """`prefix` and `vectors` of `PlacedSegments`, of what is known of each user and told."""
    context, known = tokenizer.context, tokenizer.known
    users = np.array([tokenizer.user(part.user_id) for part in parts], np.int32)
    rows = np.array([known.row(part.user_id) for part in parts], np.int64)
    codes = np.array([known.codes_of(part.user_id, part.request_context) for part in parts], np.int32)
    vectors, there = [], np.zeros((len(parts), len(context.soft)), bool)
    earlier, offsets = [part.earlier for part in parts], [part.request_context.offset for part in parts]
    for kind, soft in enumerate(context.soft):
        wanted = np.array([not part.request_context.withheld & {soft.name, ALL} for part in parts], bool)
        found, there[:, kind] = known.vectors_of(soft, rows, earlier, wanted, offsets)
        vectors.append(found)
    prompts = [tokenizer.prompt(part.request_context.prompt) for part in parts]
    codes = codes.reshape(len(parts), len(context.features))
    return prefix_tokens(tokenizer, users, codes, there, prompts), tuple(vectors)


def histories(
    user_ids: AbstractSequence[str],
    items: AbstractSequence[np.ndarray],
    tokenizer: Tokenizer,
    max_history: int,
    causal: bool = True,
    contexts: AbstractSequence[RequestContext] | None = None,
) -> Histories:
    """One user a row, each with the last `max_history` of its items (int32 catalogue rows, oldest first), padded at
    the end.

    `causal` must be what the model was trained with (`Training.targets` "every": True, "last": False). `contexts` are
    those of the requests, beside what is known of each user. The rows have room for the longest of the prompts, in few
    steps: each length is a compilation. Raises PromptError for a prompt that cannot be read, DataError for features
    that do not exist.
    """
    contexts = contexts or [NO_OVERRIDES] * len(user_ids)
    items = [np.asarray(history, np.int32) for history in items]
    # The item that comes next is not encoded: any will do in its place.
    rows = [
        [
            Segment(
                user_id,
                np.append(history[-max_history:], np.int32(0)),
                min(len(history), max_history),
                causal,
                more,
                history[:-max_history],
            )
        ]
        for user_id, history, more in zip(user_ids, items, contexts, strict=True)
    ]
    placed, all_items = _place(rows, tokenizer)
    longest = placed.prefix.shape[1] - tokenizer.prefix  # of the prompts
    steps = [0, *(tokenizer.longest_prompt * times for times in (1, 2, SERVED_PROMPT))]
    room = next(step for step in steps if step >= longest)
    return lay_out(placed, all_items, tokenizer, len(rows), tokenizer.length(max_history) + room, 1, 1).histories


def ranges(start: np.ndarray | int, count: np.ndarray) -> np.ndarray:
    """int64[sum of count]: the numbers from start[i] to start[i] + count[i] - 1, for each i in turn.

    For example the starts (5, 0) with the counts (2, 3) give 5, 6, 0, 1, 2.
    """
    return np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
