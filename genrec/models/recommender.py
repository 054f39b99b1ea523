"""Generative retrieval: an encoder over the history, and a decoder that generates the semantic ID of the next item.

After TIGER (Rajput et al. 2023), with two main differences (docs/model.md lists all):

* The encoder may be causal between items, so that one pass predicts the item at every position of a user.
* The likelihood of a code is a softmax over the codes of its level only: the product over the codes of a semantic ID is
  the exact likelihood of an item.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec import config
from genrec.input_pipeline.context import Context
from genrec.input_pipeline.examples import Array, Examples, Histories, TextExamples
from genrec.models import code_prefixes
from genrec.models.attention import MASKED, KeysValues
from genrec.models.layers import (
    DecoderLayer,
    Dropout,
    EncoderLayer,
    Layers,
    PositionBias,
    RMSNorm,
    SoftTokens,
    flat,
    flat_bias,
    tokens_of,
)
from genrec.models.prompt_bias import PromptBias, lifts
from genrec.models.repeat_bias import RepeatBias, SeenCodes
from genrec.models.transition_bias import TransitionBias
from genrec.sharding import constrain

NO_DROPOUT = Dropout(0.0, None)
EMBEDDING_ROWS = 128  # embedding tables have a multiple of this many rows, so that meshes divide them evenly


def table_rows(tokens: int) -> int:
    """Returns the number of rows of an embedding table for `tokens` tokens."""
    return -(-tokens // EMBEDDING_ROWS) * EMBEDDING_ROWS


class CrossAttentionMask(NamedTuple):
    """The encoder tokens to which decoder groups attend."""

    bias: jax.Array  # float32[batch, heads or 1, groups or 1, tokens], added to the logits; MASKED where masked
    repeats: SeenCodes | None  # for models with a repeat bias


class Memory(NamedTuple):
    """Encoder outputs, projected for decoding steps."""

    layers: tuple[KeysValues, ...]  # one per decoder layer, [batch, tokens, heads, head_width]
    cross_mask: CrossAttentionMask
    log_tilts: jax.Array | None = None  # float32[batch, 1, rows of an index], of a prompt bias where there are prompts


class Cache(NamedTuple):
    """Decoder state after the codes chosen so far; all leaves are [batch, groups, ...]."""

    layers: tuple[tuple[KeysValues, ...], ...]  # per decoder layer, of all tokens or of one after another
    prefixes: jax.Array  # uint32[batch, groups], hash of the codes


class Conditioning(NamedTuple):
    """Inputs and outputs of a model beside users and items."""

    context: Context = Context()
    pieces: int = 0  # size of the vocabulary of prompts and texts
    text_kinds: int = 0  # kinds of texts that it generates; 0 if none
    mention_columns: int = 0  # columns whose values are found in prompts, for a prompt bias; 0 if there is none


NO_CONDITIONING = Conditioning()


class Recommender(nnx.Module):
    """Encoder-decoder over the tokens of `input_pipeline.examples.Tokenizer`.

    `sizes` are the codes per level of the semantic IDs. Tokens 0 .. sum(sizes) - 1 are codes, level after level, then
    come users, features, soft tokens, pieces, and the kinds of texts.
    """

    def __init__(
        self, cfg: config.Model, sizes: tuple[int, ...], rngs: nnx.Rngs, conditioning: Conditioning = NO_CONDITIONING
    ):
        self.cfg, self.sizes, self.conditioning = cfg, tuple(sizes), conditioning
        self.offsets = tuple(int(offset) for offset in np.cumsum((0, *sizes[:-1])))
        self.first_piece = sum(sizes) + cfg.user_tokens + conditioning.context.vocabulary
        tokens = table_rows(self.first_piece + conditioning.pieces + conditioning.text_kinds)
        normal, table = nnx.initializers.normal, ("vocabulary", "embed")
        self.embedding = nnx.Param(normal(1.0)(rngs.params(), (tokens, cfg.width)), axes=table)
        self.start_vector = nnx.Param(normal(1.0)(rngs.params(), (cfg.width,)))
        # One table per level: slicing a level's rows out of a sharded table would move them between devices.
        output = normal(cfg.width**-0.5)(rngs.params(), (sum(sizes), cfg.width))
        self.output = nnx.List([nnx.Param(rows, axes=table) for rows in jnp.split(output, self.offsets[1:])])
        self.encoder_bias = PositionBias(cfg, bidirectional=True, rngs=rngs)
        self.decoder_bias = PositionBias(cfg, bidirectional=False, rngs=rngs)
        self.cross_bias = PositionBias(cfg, bidirectional=False, rngs=rngs) if cfg.cross_position_bias else None
        self.repeat_bias = RepeatBias(self.sizes, cfg.width) if cfg.repeat_bias else None
        self.transition_bias = TransitionBias(len(self.sizes), cfg.width) if cfg.transition_bias else None
        columns = conditioning.mention_columns
        self.prompt_bias = PromptBias(columns, conditioning.pieces, cfg.width) if columns else None
        self.encoder = Layers(lambda: EncoderLayer(cfg, rngs), cfg.encoder_layers, cfg)
        self.decoder = Layers(lambda: DecoderLayer(cfg, rngs), cfg.decoder_layers, cfg)
        self.encoder_norm = RMSNorm(cfg.width)
        self.decoder_norm = RMSNorm(cfg.width)
        self.soft = nnx.List([SoftTokens(cfg, soft.width, soft.tokens, rngs) for soft in conditioning.context.vectors])
        shape, draw = (table_rows(conditioning.pieces), cfg.width), normal(cfg.width**-0.5)
        self.text_output = nnx.Param(draw(rngs.params(), shape), axes=table) if conditioning.text_kinds else None

    def _embed(self, tokens: Array) -> jax.Array:
        """Returns [..., width] for int32[...]."""
        # Rows stay on their devices; only the shards of their width are gathered before the look-up.
        return constrain(self.embedding[...], "vocabulary")[tokens].astype(self.cfg.compute)

    def encode(self, histories: Histories, dropout: Dropout = NO_DROPOUT) -> jax.Array:
        """Returns the encoder outputs [batch, tokens, width]."""
        x = self._embed(histories.tokens)
        for adapter, (vectors, places) in zip(self.soft, histories.soft, strict=True):
            at = places[..., None] + jnp.arange(adapter.tokens)  # [batch, slots, tokens]
            soft = adapter(jnp.asarray(vectors)).astype(x.dtype)
            x = jax.vmap(lambda x, at, soft: x.at[at].add(soft, mode="drop"))(x, at, soft)
        x = constrain(dropout(x), "batch")
        index = jnp.arange(histories.tokens.shape[1])
        position = self.encoder_bias(index[None, :] - index[:, None])  # [heads, queries, keys]
        same = histories.segments[:, :, None] == histories.segments[:, None, :]
        seen = same & (histories.positions[:, :, None] >= histories.positions[:, None, :])
        bias = position + jnp.where(seen, 0.0, MASKED)[:, None]
        x = self.encoder.run(lambda layer, number, x: layer(x, bias, dropout.of_layer(number)), x)
        return dropout(self.encoder_norm(x))

    def cross_mask(
        self, encoded: jax.Array, histories: Histories, segments: Array, positions: Array
    ) -> CrossAttentionMask:
        """Returns the mask of decoder groups at `positions` of `segments`, both int32[batch, groups]."""
        ahead = jnp.asarray(histories.positions)[:, None, :] - positions[:, :, None]  # [batch, groups, tokens]
        seen = (histories.segments[:, None, :] == segments[:, :, None]) & (ahead <= 0)
        bias = jnp.where(seen, 0.0, MASKED)[:, None]
        if self.cross_bias is not None:
            bias += jnp.moveaxis(self.cross_bias(ahead), 0, 1)
        repeats = None
        if self.repeat_bias is not None:
            repeats = self.repeat_bias.project_kv(encoded, histories.tokens, seen)
        return CrossAttentionMask(bias, repeats)

    def _decoder_bias(self, new: int, length: int) -> jax.Array:
        """Returns float32[heads, new, length]: the bias of self-attention of the last `new` of `length` tokens."""
        keys = jnp.arange(length)
        distance = keys[None, :] - keys[length - new :, None]
        return self.decoder_bias(distance) + jnp.where(distance <= 0, 0.0, MASKED)

    def _logits(
        self,
        x: jax.Array,
        level: int,
        prefixes: jax.Array,
        cross_mask: CrossAttentionMask,
        log_shares: Array | None = None,
    ) -> jax.Array:
        """Returns float32[batch, groups, codes] for decoder outputs x [batch, groups, width] after code `prefixes`.

        `log_shares` float32[batch, groups, codes] are those of the transitions, for a model with a bias by them.
        """
        codes = np.arange(self.sizes[level]) + self.offsets[level]
        table = self.output[level][...].astype(x.dtype)
        logits = jnp.einsum("bgw,kw->bgk", x, table, preferred_element_type=jnp.float32)
        if self.repeat_bias is not None and cross_mask.repeats is not None:
            logits += self.repeat_bias(x, level, codes, prefixes, cross_mask.repeats)
        if self.transition_bias is not None:
            assert log_shares is not None, "a model with model.transition_bias needs the log-shares of transitions"
            logits += self.transition_bias(x, level, jnp.asarray(log_shares))
        return logits

    def losses(self, examples: Examples, dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns -log p of each target's codes, float32[batch, targets, levels]; meaningless at padding.

        A `dropout_key` is that of a training step. Without one, a prompt bias is as strong as in a search.
        """
        dropout = Dropout(self.cfg.dropout, dropout_key)
        encoded = self.encode(examples.histories, dropout)
        cross_mask = self.cross_mask(encoded, examples.histories, examples.target_segments, examples.target_positions)
        prefixes = [jnp.full(examples.target_segments.shape, code_prefixes.NO_CODES, jnp.uint32)]  # before each level
        for level in range(len(self.sizes) - 1):
            prefixes.append(code_prefixes.extend(prefixes[-1], examples.targets[:, :, level]))
        embedded = self._embed(examples.targets[:, :, :-1])
        start = self.start_vector[...].astype(self.cfg.compute)
        start = jnp.broadcast_to(start, (*embedded.shape[:2], 1, self.cfg.width))
        x = jnp.concatenate([start, embedded], axis=2)
        decoded = tokens_of(self._decode_all(x, encoded, cross_mask, dropout), len(self.sizes))
        losses, mentions, of_prompts = [], examples.histories.mentions, None
        if self.prompt_bias is not None and mentions is not None:
            log_tilts = self.prompt_bias.log_tilts(encoded, mentions, sharp=dropout_key is None)
            of_prompts = lifts(log_tilts, mentions, self.sizes, prefixes)
        for level, offset in enumerate(self.offsets):
            shares = None if examples.log_shares is None else examples.log_shares[level]
            logits = self._logits(decoded[level], level, prefixes[level], cross_mask, shares)
            if of_prompts is not None:
                logits += of_prompts[level]
            code = examples.targets[:, :, level] - offset
            # Padding holds token 0, which is no code of a later level.
            chosen = jnp.take_along_axis(logits, jnp.maximum(code, 0)[..., None], axis=-1)[..., 0]
            losses.append(jax.nn.logsumexp(logits, axis=-1) - chosen)
        return jnp.stack(losses, axis=-1)

    def text_losses(self, texts: TextExamples, dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns -log p of each piece, float32[batch, pieces]; 0 at padding."""
        dropout = Dropout(self.cfg.dropout, dropout_key)
        encoded = self.encode(texts.histories, dropout)
        present = texts.pieces >= 0
        pieces = jnp.maximum(texts.pieces, 0)
        logits = self._text_logits(encoded, texts.histories, texts.kinds, pieces[:, :-1], dropout)
        chosen = jnp.take_along_axis(logits, pieces[..., None], axis=-1)[..., 0]
        return jnp.where(present, jax.nn.logsumexp(logits, axis=-1) - chosen, 0)

    def text_logits(self, histories: Histories, kinds: Array, pieces: Array) -> jax.Array:
        """Returns the logits float32[batch, 1 + n, pieces] of the first piece, and after each of int32[batch, n]."""
        return self._text_logits(self.encode(histories), histories, kinds, pieces, NO_DROPOUT)

    def _text_logits(
        self, encoded: jax.Array, histories: Histories, kinds: Array, pieces: Array, dropout: Dropout
    ) -> jax.Array:
        assert self.text_output is not None, "the model generates no texts (prompts.texts)"
        first = self.first_piece + self.conditioning.pieces + kinds  # start token: the kind of the text
        x = self._embed(jnp.concatenate([first[:, None], self.first_piece + pieces], axis=1))[:, None]
        last = jnp.max(histories.positions, axis=1, keepdims=True)
        cross_mask = self.cross_mask(encoded, histories, jnp.ones_like(last), last)
        x = self._decode_all(x, encoded, cross_mask, dropout)
        table = self.text_output[...].astype(x.dtype)
        return jnp.einsum("btw,pw->btp", x, table, preferred_element_type=jnp.float32)[..., : self.conditioning.pieces]

    def _decode_all(
        self, x: jax.Array, encoded: jax.Array, cross_mask: CrossAttentionMask, dropout: Dropout
    ) -> jax.Array:
        """Returns the decoder outputs, in the order of `flat`, for x [batch, groups, tokens, width]."""
        new = x.shape[2]
        bias, cross_bias = self._decoder_bias(new, new), flat_bias(cross_mask.bias, new)

        def layer_of(layer: DecoderLayer, number: int | jax.Array, x: jax.Array) -> jax.Array:
            own = dropout.of_layer(self.cfg.encoder_layers + number, new)
            return layer(x, bias, layer.cross.project_kv(encoded), cross_bias, own)[0]

        x = self.decoder.run(layer_of, constrain(dropout(flat(x), new), "batch"))
        return dropout(self.decoder_norm(x), new)

    def start(self, histories: Histories, encoded: jax.Array | None = None) -> Memory:
        """Encodes one user a row, to decode the next item after the whole history by `step`.

        `encoded` is the result of `encode`, where it is known. The bias of a prompt is added to the logits of `step` by
        the search (`prompt_bias.cumulated`).
        """
        last, log_tilts = jnp.max(histories.positions, axis=1, keepdims=True), None
        if encoded is None:
            encoded = self.encode(histories)
        layers = tuple(
            KeysValues(*(x.astype(self.cfg.compute) for x in layer.cross.project_kv(encoded)))
            for layer in self.decoder.each()
        )
        if self.prompt_bias is not None and histories.mentions is not None:
            log_tilts = self.prompt_bias.log_tilts(encoded, histories.mentions)
        return Memory(layers, self.cross_mask(encoded, histories, jnp.ones_like(last), last), log_tilts)

    def step(
        self,
        memory: Memory,
        codes: jax.Array | None,
        level: int,
        cache: Cache | None,
        log_shares: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Returns the logits of a level, float32[batch, beams, sizes[level]], after the codes chosen so far.

        `codes` int32[batch, beams] are those of level - 1; None at level 0, where there is one beam and no cache. The
        leaves of the cache are [batch, beams, ...]: reordering beams is one `jax.tree.map`. `log_shares` are those of
        the level's codes, [batch, beams, sizes[level]], for a model with a transition bias.
        """
        codes = None if codes is None else codes[..., None]
        (logits,), cache = self._decode(memory, codes, level, cache, [log_shares])
        return logits, cache

    def finish(
        self,
        memory: Memory,
        codes: jax.Array,
        level: int,
        cache: Cache,
        log_shares: Sequence[jax.Array | None] | None = None,
    ) -> list[jax.Array]:
        """Returns the logits of several levels in parallel, from `level` on, each float32[batch, beams, codes].

        `codes` int32[batch, beams, n] are those of level - 1 and the n - 1 levels after it. Equals n calls of `step`.
        """
        return self._decode(memory, codes, level, cache, log_shares or [None] * codes.shape[-1])[0]

    def _decode(
        self,
        memory: Memory,
        codes: jax.Array | None,
        level: int,
        cache: Cache | None,
        log_shares: Sequence[jax.Array | None],
    ) -> tuple[list[jax.Array], Cache]:
        """Returns the logits of n levels from `level` on, after codes int32[batch, beams, n] from level - 1 on.

        At level 0 there are neither codes nor a cache, and the start vector is the input.
        """
        cross_mask, new = memory.cross_mask, 1
        past: Sequence[tuple[KeysValues, ...]]
        if codes is None or cache is None:
            batch, past = cross_mask.bias.shape[0], [()] * self.decoder.count
            prefixes = [jnp.full((batch, 1), code_prefixes.NO_CODES, jnp.uint32)]
            x = jnp.broadcast_to(self.start_vector[...], (batch, 1, 1, self.cfg.width))
        else:
            past, new = cache.layers, codes.shape[-1]
            tokens = codes + np.array(self.offsets[level - 1 : level - 1 + new], np.int32)
            prefixes = [code_prefixes.extend(cache.prefixes, tokens[..., 0])]
            for place in range(1, new):
                prefixes.append(code_prefixes.extend(prefixes[-1], tokens[..., place]))
            x = self._embed(tokens)
        x = flat(x.astype(self.cfg.compute))
        bias, presents = self._decoder_bias(new, level + new), []
        for layer, layer_memory, earlier in zip(self.decoder.each(), memory.layers, past, strict=True):
            x, present = layer(x, bias, layer_memory, flat_bias(cross_mask.bias, new), NO_DROPOUT, earlier)
            presents.append(present)
        logits = [
            self._logits(token, level + place, prefixes[place], cross_mask, log_shares[place])
            for place, token in enumerate(tokens_of(self.decoder_norm(x), new))
        ]
        return logits, Cache(tuple(presents), prefixes[-1])
