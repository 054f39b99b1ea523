"""Tokenization of users' histories and targets, and their packing into rows.

The encoder reads a *prefix* and then the history, `levels` tokens for each item. The prefix holds soft tokens, feature
tokens, the pieces of a prompt, each where there are any, and one token for a hash of the user id:

    [soft tokens][features][prompt][user] [item 1] [item 2] ...

Several users share a row. Two arrays tell the attention which tokens belong together:

* `segments`: 0 is padding, 1, 2, ... are the users (or parts of users) of the row;
* `positions`: 0 is the prefix, j is the j-th item. A token attends to tokens of its segment at positions up to its own,
  and a target at position t, which is the item after the t-th, to positions up to t. All positions 0 make a
  bidirectional encoder with one target, the setting of the TIGER paper.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from genrec.input_pipeline.context import ABSENT, ALL, NO_OVERRIDES, Context, RequestContext, UserFeatures
from genrec.input_pipeline.mentions import MOST, REACH, MentionFinder, Mentions
from genrec.input_pipeline.transitions import CodeShares
from genrec.input_pipeline.vocabulary import SERVED_PROMPT, PromptError, PromptTokenizer, Vocabulary

Array = np.ndarray | jax.Array  # NumPy on the host, JAX in compiled functions
Count = TypeVar("Count", int, np.ndarray)

ANONYMOUS = ""  # the user id of inputs without a user
NO_USER_FEATURES = UserFeatures(Context(), None)
NO_ITEMS = np.zeros(0, np.int32)
NO_PIECES = np.zeros(0, np.int32)


class SoftInputs(NamedTuple):
    """The vectors of one kind in a batch, and the places of the soft tokens that an adapter makes of each."""

    vectors: Array  # float32[rows, slots, width]
    places: Array  # int32[rows, slots], first token of each vector in its row; beyond the row where there is no vector


class Histories(NamedTuple):
    """Encoder inputs."""

    tokens: Array  # int32[rows, tokens]
    segments: Array  # int32[rows, tokens]
    positions: Array  # int32[rows, tokens]
    soft: tuple[SoftInputs, ...] = ()  # for each vector of the model's context
    # float32[rows, items], probability of each as the next one, for models with a transition bias in decoding
    transitions: Array | None = None
    mentions: Mentions | None = None  # for models with a prompt bias, where there are prompts


class TextExamples(NamedTuple):
    """Histories with a text to predict for each."""

    histories: Histories  # one segment a row
    pieces: Array  # int32[rows, longest], from 0; -1 is padding
    kinds: Array  # int32[rows], the text task


class Examples(NamedTuple):
    """Histories with the items to predict."""

    histories: Histories
    targets: Array  # int32[rows, targets, levels], tokens of the target items
    target_segments: Array  # int32[rows, targets]; 0 is padding
    target_positions: Array  # int32[rows, targets]
    weights: Array | None = None  # float32[rows, targets], in the loss; None: 1 for all
    texts: TextExamples | None = None  # in rows of their own
    # Per level float32[rows, targets, codes], for models with a transition bias; see `CodeShares.log_shares`
    log_shares: tuple[Array, ...] | None = None


class Segment(NamedTuple):
    """One user's part of a row: history and targets."""

    user_id: str
    items: np.ndarray  # int32[n], catalogue rows, oldest first
    first_target: int  # items[first_target:] are targets; each is predicted from the items before it
    causal: bool  # False: all tokens of the segment attend to each other, and only the last item may be a target
    request_context: RequestContext = NO_OVERRIDES
    earlier: np.ndarray = NO_ITEMS  # the user's items before `items`, for a summary


class Tokenizer(NamedTuple):
    """Maps users and items to tokens. The vocabulary: codes, users, features, soft tokens, pieces, kinds of texts."""

    items: np.ndarray  # int32[items, levels], the tokens of every catalogue row
    first_user: int  # the first user token
    user_tokens: int  # users are hashed into this many tokens
    user_features: UserFeatures = NO_USER_FEATURES
    prompt_tokenizer: PromptTokenizer | None = None  # None: the model takes no prompts
    code_shares: CodeShares | None = None  # None: the model has no transition bias
    mention_finder: MentionFinder | None = None  # None: the model has no prompt bias

    @property
    def levels(self) -> int:
        return self.items.shape[1]

    @property
    def context(self) -> Context:
        return self.user_features.context

    @property
    def prefix(self) -> int:
        """Returns the most tokens before the first item, without a prompt."""
        return 1 + len(self.context.features) + self.context.soft_tokens

    @property
    def first_feature(self) -> int:
        return self.first_user + self.user_tokens

    @property
    def first_piece(self) -> int:
        return self.first_feature + self.context.vocabulary

    def user(self, user_id: str) -> int:
        """Returns the token of a user, by a hash that is the same in every process and on every machine."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
        return self.first_user + int.from_bytes(digest, "little") % self.user_tokens

    def length(self, items: Count) -> Count:
        """Returns the most encoder tokens of a user with `items` history items, without a prompt."""
        return self.prefix + self.levels * items

    @property
    def longest_prompt(self) -> int:
        """Returns the most pieces of a prompt in training; 0 for a model that takes no prompts."""
        return 0 if self.prompt_tokenizer is None else self.prompt_tokenizer.longest

    @property
    def longest_served_prompt(self) -> int:
        """Returns the most pieces of a prompt in serving."""
        return SERVED_PROMPT * self.longest_prompt

    @property
    def prompt_rooms(self) -> tuple[int, ...]:
        """Returns the lengths, in pieces, to which the prompts of a batch are padded: few, as each is a compilation."""
        return tuple(sorted({0, self.longest_prompt, self.longest_served_prompt}))

    def prompt_room(self, pieces: int) -> int:
        """Returns the room for prompts of at most `pieces` pieces."""
        return next(room for room in self.prompt_rooms if room >= pieces)

    @property
    def vocabulary(self) -> Vocabulary:
        """Returns the vocabulary of prompts and texts; raises PromptError for a model that takes no prompts."""
        return self._prompts.vocabulary

    @property
    def _prompts(self) -> PromptTokenizer:
        if self.prompt_tokenizer is None:
            raise PromptError("this model takes no prompts: train it with config.prompts.columns")
        return self.prompt_tokenizer

    def prompt(self, text: str, serving: bool = True) -> np.ndarray:
        """Returns int32[n], the pieces of a prompt, as `PromptTokenizer.encode` does.

        Raises PromptError for a prompt to a model that takes none, and in serving for one that is too long.
        """
        text = " ".join(text.split())
        return self._prompts.encode(text, serving) if text else NO_PIECES


class PlacedSegments(NamedTuple):
    """Segments in rows, in the order of the rows, as parallel arrays; their items are in a flat array beside these."""

    row: np.ndarray  # int64[segments], ascending
    prefix: np.ndarray  # int32[segments, n], tokens from `prefix_tokens`; -1 where a part is absent
    vectors: tuple[np.ndarray, ...]  # float32[segments, width] for each vector of the context
    first_item: np.ndarray  # int64[segments], index into the flat array
    length: np.ndarray  # int64[segments], number of items: history and targets
    first_target: np.ndarray  # int64[segments], relative to first_item
    causal: np.ndarray  # bool[segments]
    weight: np.ndarray | None = None  # float32[segments], of the targets in the loss
    part: np.ndarray | None = None  # int64[segments], of the training sequences, left out of the transitions' counts


class RowShape(NamedTuple):
    """The capacity of a row."""

    tokens: int
    targets: int
    segments: int


def prefix_tokens(
    tokenizer: Tokenizer, users: np.ndarray, codes: np.ndarray, has_vector: np.ndarray, prompts: Sequence[np.ndarray]
) -> np.ndarray:
    """Returns int32[segments, n]: the prefix of each segment, -1 where a part is absent.

    Takes user tokens int32[segments], feature codes int32[segments, features], bool[segments, vectors], and the pieces
    int32[n] of each segment's prompt.
    """
    context = tokenizer.context
    soft = tokenizer.first_feature + context.codes + np.arange(context.soft_tokens)
    has_token = np.repeat(has_vector, [vector.tokens for vector in context.vectors], axis=1)
    first = tokenizer.first_feature + np.cumsum([0, *(feature.size for feature in context.features)])[:-1]
    prompt = np.full((len(users), max(map(len, prompts), default=0)), -1, np.int32)
    for segment, pieces in enumerate(prompts):
        prompt[segment, : len(pieces)] = tokenizer.first_piece + pieces
    features = np.where(codes == ABSENT, -1, first.astype(np.int32) + codes)
    parts = [np.where(has_token, soft, -1), features, prompt, users[:, None]]
    return np.concatenate(parts, axis=1).astype(np.int32)


def assemble_rows(
    placed: PlacedSegments, items: np.ndarray, tokenizer: Tokenizer, rows: int, shape: RowShape
) -> Examples:
    """Writes placed segments side by side into `rows` rows of a shape; `items` int32[n] are catalogue rows.

    A segment of n items with first target f takes its prefix, `levels` tokens for each of n - 1 items, and n - f
    targets: the last item is only a target, so it is not encoded. Raises ValueError when a row does not fit.
    """
    histories, number, at_target = _write_histories(placed, items, tokenizer, rows, shape)
    targets = placed.length - placed.first_target
    target_ids = np.zeros((rows * shape.targets, tokenizer.levels), np.int32)
    target_segments, target_positions = (np.zeros(rows * shape.targets, np.int32) for _ in range(2))
    at_target = ranges(placed.row * shape.targets + at_target, targets)
    target = ranges(placed.first_target, targets)
    target_ids[at_target] = tokenizer.items[items[np.repeat(placed.first_item, targets) + target]]
    target_segments[at_target] = np.repeat(number, targets)
    target_positions[at_target] = np.repeat(placed.causal, targets) * target
    weights = None
    if placed.weight is not None:
        flat = np.zeros(rows * shape.targets, np.float32)
        flat[at_target] = np.repeat(placed.weight, targets)
        weights = flat.reshape(rows, shape.targets)
    log_shares = None
    if tokenizer.code_shares is not None:
        start = np.repeat(placed.first_item, targets)
        part = None if placed.part is None else np.repeat(placed.part, targets)
        of_targets = tokenizer.code_shares.log_shares(items, start, start + target, items[start + target], part)
        log_shares = tuple(_scattered(one, at_target, (rows, shape.targets)) for one in of_targets)
    return Examples(
        histories,
        target_ids.reshape(rows, shape.targets, tokenizer.levels),
        target_segments.reshape(rows, shape.targets),
        target_positions.reshape(rows, shape.targets),
        weights,
        log_shares=log_shares,
    )


def _write_histories(
    placed: PlacedSegments, items: np.ndarray, tokenizer: Tokenizer, rows: int, shape: RowShape
) -> tuple[Histories, np.ndarray, np.ndarray]:
    """Writes the histories of `assemble_rows`.

    Also returns the number int32[segments] of each segment within its row, from 1, and where its targets begin there.
    """
    present = placed.prefix >= 0
    prefix = present.sum(axis=1)
    history, targets = placed.length - 1, placed.length - placed.first_target
    size = prefix + tokenizer.levels * history
    first_of_row = np.searchsorted(placed.row, placed.row)
    number = (np.arange(len(placed.row)) - first_of_row + 1).astype(np.int32)
    at, at_target = (_within_row(sizes, first_of_row) for sizes in (size, targets))
    _check_fit(placed, at + size, at_target + targets, shape)

    # Flat arrays over all rows
    ids, segments, positions = (np.zeros(rows * shape.tokens, np.int32) for _ in range(3))
    soft = _soft_inputs(placed, tokenizer.context, number, at, rows, shape)
    mentions = _mentions(placed, tokenizer, at, at_target, rows, shape)
    at = placed.row * shape.tokens + at
    at_prefix = ranges(at, prefix)
    ids[at_prefix], segments[at_prefix] = placed.prefix[present], np.repeat(number, prefix)
    item = ranges(0, history)  # within its segment
    at_item = np.repeat(at + prefix, history) + tokenizer.levels * item
    at_code = at_item[:, None] + np.arange(tokenizer.levels)  # [history items, levels]
    ids[at_code] = tokenizer.items[items[np.repeat(placed.first_item, history) + item]]
    segments[at_code] = np.repeat(number, history)[:, None]
    positions[at_code] = (np.repeat(placed.causal, history) * (item + 1))[:, None]
    tokens = (rows, shape.tokens)
    found = Histories(ids.reshape(tokens), segments.reshape(tokens), positions.reshape(tokens), soft, mentions=mentions)
    return found, number, at_target


def _scattered(values: np.ndarray, at: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns float32[rows, targets, n]: `values` float32[m, n] at the places `at` int[m] of all targets, else 0."""
    flat = np.zeros((shape[0] * shape[1], values.shape[1]), np.float32)
    flat[at] = values
    return flat.reshape(*shape, -1)


def _soft_inputs(
    placed: PlacedSegments, context: Context, number: np.ndarray, at: np.ndarray, rows: int, shape: RowShape
) -> tuple[SoftInputs, ...]:
    """Returns the inputs of the vectors, in the order of their segments.

    `number` int32[segments] counts segments within their row from 1, `at` int64[segments] is where each begins in its
    row. A segment begins with its soft tokens; absent vectors have none.
    """
    made, first, column = [], np.zeros(len(placed.row), np.int64), 0
    for feature, of_segments in zip(context.vectors, placed.vectors, strict=True):
        present = placed.prefix[:, column] >= 0
        chosen = placed.row[present], number[present] - 1
        vectors = np.zeros((rows, shape.segments, feature.width), np.float32)
        places = np.full((rows, shape.segments), shape.tokens, np.int32)
        vectors[chosen], places[chosen] = of_segments[present], (at + first)[present]
        made.append(SoftInputs(vectors, places))
        first, column = first + present * feature.tokens, column + feature.tokens
    return tuple(made)


def _mentions(
    placed: PlacedSegments, tokenizer: Tokenizer, at: np.ndarray, at_target: np.ndarray, rows: int, shape: RowShape
) -> Mentions | None:
    """Returns the mentions in the prompts, for each target; None for a model that has no prompt bias.

    `at` and `at_target` int64[segments] are where the tokens and the targets of each segment begin in its row.
    """
    finder, start = tokenizer.mention_finder, tokenizer.prefix - 1  # the last token of a prefix is the user
    if finder is None:
        return None
    places = np.zeros((rows, shape.targets, MOST), np.int32)
    columns, items = np.full_like(places, -1), np.zeros((rows, shape.targets, finder.items), np.uint16)
    before, after = (np.full((*places.shape, REACH), -1, np.int32) for _ in range(2))
    prompts, present = placed.prefix[:, start:-1], placed.prefix >= 0
    for segment in np.flatnonzero(present[:, start:-1].any(axis=1)):
        pieces = prompts[segment][present[segment, start:-1]] - tokenizer.first_piece
        first = at[segment] + present[segment, :start].sum()
        targets = placed.length[segment] - placed.first_target[segment]
        of_targets = placed.row[segment], slice(at_target[segment], at_target[segment] + targets)
        for number, mention in enumerate(finder.find(pieces)):
            places[*of_targets, number], columns[*of_targets, number] = first + mention.last, mention.column
            before[*of_targets, number, : len(mention.before)] = mention.before
            after[*of_targets, number, : len(mention.after)] = mention.after
            items[*of_targets, mention.items] |= np.uint16(1 << number)
    return Mentions(places, columns, before, after, items, finder.catalogue)


def _within_row(sizes: np.ndarray, first_of_row: np.ndarray) -> np.ndarray:
    """Returns int64[segments]: where each begins in its row, whose first segment is `first_of_row`."""
    begin = np.cumsum(sizes) - sizes
    return begin - begin[first_of_row]


def _check_fit(placed: PlacedSegments, end: np.ndarray, end_target: np.ndarray, shape: RowShape) -> None:
    too_long = (end > shape.tokens) | (end_target > shape.targets)
    if too_long.any():
        worst = np.argmax(too_long)
        found = f"{end[worst]} tokens and {end_target[worst]} targets"
        raise ValueError(f"row {placed.row[worst]}: {found} do not fit {shape}")
    if (~placed.causal & (placed.first_target != placed.length - 1)).any():
        raise ValueError("a bidirectional segment must have the last item as its only target")


def pack(rows: Sequence[Sequence[Segment]], tokenizer: Tokenizer, row_tokens: int, row_targets: int) -> Examples:
    """Assembles rows of segments; for errors see `assemble_rows`."""
    placed, items = _place(rows, tokenizer)
    shape = RowShape(row_tokens, row_targets, segments=max(map(len, rows), default=1))
    return assemble_rows(placed, items, tokenizer, len(rows), shape)


def _place(rows: Sequence[Sequence[Segment]], tokenizer: Tokenizer) -> tuple[PlacedSegments, np.ndarray]:
    """Returns the segments of rows as arrays, and their concatenated items int32[n]."""
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


def _prefixes(parts: Sequence[Segment], tokenizer: Tokenizer) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Returns `prefix` and `vectors` of `PlacedSegments`, from the users' features and the request contexts."""
    context, of_users = tokenizer.context, tokenizer.user_features
    users = np.array([tokenizer.user(part.user_id) for part in parts], np.int32)
    rows = np.array([of_users.row(part.user_id) for part in parts], np.int64)
    codes = np.array([of_users.codes_of(part.user_id, part.request_context) for part in parts], np.int32)
    vectors, has_vector = [], np.zeros((len(parts), len(context.vectors)), bool)
    earlier, offsets = [part.earlier for part in parts], [part.request_context.offset for part in parts]
    for kind, feature in enumerate(context.vectors):
        wanted = np.array([not part.request_context.withheld & {feature.name, ALL} for part in parts], bool)
        found, has_vector[:, kind] = of_users.vectors_of(feature, rows, earlier, wanted, offsets)
        vectors.append(found)
    prompts = [tokenizer.prompt(part.request_context.prompt) for part in parts]
    codes = codes.reshape(len(parts), len(context.features))
    return prefix_tokens(tokenizer, users, codes, has_vector, prompts), tuple(vectors)


def histories(
    user_ids: Sequence[str],
    items: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    max_history: int,
    causal: bool = True,
    contexts: Sequence[RequestContext] | None = None,
    room: int = 0,
) -> Histories:
    """Returns encoder inputs with one user a row, padded at the end: the last `max_history` items of each.

    `items` are catalogue rows int32[n], oldest first; `causal` must be as in training (`Training.targets` "every":
    True, "last": False). The room for prompts is one of `Tokenizer.prompt_rooms`, so that few shapes are compiled, and
    at least `room` pieces. Raises PromptError for a prompt that cannot be read, DataError for features that do not
    exist.
    """
    contexts = contexts or [NO_OVERRIDES] * len(user_ids)
    rows = []
    for user_id, history, context in zip(user_ids, items, contexts, strict=True):
        history = np.asarray(history, np.int32)
        recent = np.append(history[-max_history:], np.int32(0))  # the target is not encoded: any item will do
        first_target = min(len(history), max_history)
        rows.append([Segment(user_id, recent, first_target, causal, context, history[:-max_history])])
    placed, all_items = _place(rows, tokenizer)
    room = tokenizer.prompt_room(max(room, placed.prefix.shape[1] - tokenizer.prefix))
    shape = RowShape(tokenizer.length(max_history) + room, targets=1, segments=1)
    found, _, _ = _write_histories(placed, all_items, tokenizer, len(rows), shape)
    if room == 0:  # no prompts: searches need no mentions
        found = found._replace(mentions=None)
    if tokenizer.code_shares is None:
        return found
    read = [row[0].items[:-1] for row in rows]
    return found._replace(transitions=tokenizer.code_shares.probabilities(read))


def ranges(start: np.ndarray | int, count: np.ndarray) -> np.ndarray:
    """Returns int64[sum of count]: the numbers start[i] .. start[i] + count[i] - 1, for each i in turn.

    For example the starts (5, 0) with the counts (2, 3) give 5, 6, 0, 1, 2.
    """
    return np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
