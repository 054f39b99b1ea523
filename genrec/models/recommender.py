"""The generative recommender: an encoder over the history, a decoder that spells the semantic ID of the next item.

After TIGER (Rajput et al. 2023), with two main differences (docs/model.md has all):

* The encoder may be causal between items, so that one pass predicts the item at every position of a user.
* The likelihood of a code is a softmax over the codes of its level only: the codes of a semantic ID multiply to the
  exact likelihood of an item.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec import config
from genrec.data.examples import Examples, Histories
from genrec.models import code_prefixes
from genrec.models.layers import MASKED, DecoderLayer, Dropout, EncoderLayer, KeysValues, PositionBias, RMSNorm
from genrec.models.repeats import RepeatBias, SeenCodes

NO_DROPOUT = Dropout(0.0, None)


class Memory(NamedTuple):
    """What the decoder reads of the encoder."""

    layers: tuple[KeysValues, ...]  # one per decoder layer, [batch, tokens, heads, head_width]
    bias: jax.Array  # float32[batch, heads or 1, groups or 1, tokens]; MASKED where a group may not look
    repeats: SeenCodes | None  # where the model has a repeat bias


class Cache(NamedTuple):
    """What the decoder remembers of the codes chosen so far; all leaves are [batch, groups, ...]."""

    layers: tuple[KeysValues, ...]  # one per decoder layer, [batch, groups, tokens, heads, head_width]
    prefixes: jax.Array  # uint32[batch, groups], hash of the codes


class Recommender(nnx.Module):
    """`sizes` are the codes per level of the semantic IDs; tokens 0 .. sum(sizes) - 1 are codes, level after level."""

    def __init__(self, cfg: config.Model, sizes: tuple[int, ...], rngs: nnx.Rngs):
        self.cfg, self.sizes = cfg, tuple(sizes)
        self.offsets = tuple(int(offset) for offset in np.cumsum((0, *sizes[:-1])))
        normal = nnx.initializers.normal
        self.embedding = nnx.Param(normal(1.0)(rngs.params(), (sum(sizes) + cfg.user_tokens, cfg.width)))
        self.start_vector = nnx.Param(normal(1.0)(rngs.params(), (cfg.width,)))
        self.output = nnx.Param(normal(cfg.width**-0.5)(rngs.params(), (sum(sizes), cfg.width)))
        self.encoder_bias = PositionBias(cfg, bidirectional=True, rngs=rngs)
        self.decoder_bias = PositionBias(cfg, bidirectional=False, rngs=rngs)
        self.cross_bias = PositionBias(cfg, bidirectional=False, rngs=rngs) if cfg.cross_position_bias else None
        self.repeat_bias = RepeatBias(self.sizes, cfg.width) if cfg.repeat_bias else None
        self.encoder = nnx.List([EncoderLayer(cfg, rngs) for _ in range(cfg.encoder_layers)])
        self.decoder = nnx.List([DecoderLayer(cfg, rngs) for _ in range(cfg.decoder_layers)])
        self.encoder_norm = RMSNorm(cfg.width)
        self.decoder_norm = RMSNorm(cfg.width)

    def encode(self, histories: Histories, dropout: Dropout = NO_DROPOUT) -> jax.Array:
        """Encoder outputs [batch, tokens, width]."""
        x = dropout(self.embedding[...][histories.tokens].astype(self.cfg.compute))
        index = jnp.arange(histories.tokens.shape[1])
        position = self.encoder_bias(index[None, :] - index[:, None])  # [heads, queries, keys]
        same = histories.segments[:, :, None] == histories.segments[:, None, :]
        seen = same & (histories.positions[:, :, None] >= histories.positions[:, None, :])
        bias = position + jnp.where(seen, 0.0, MASKED)[:, None]
        for layer in self.encoder:
            x = layer(x, bias, dropout)
        return dropout(self.encoder_norm(x))

    def remember(self, encoded: jax.Array, histories: Histories, segments: jax.Array, positions: jax.Array) -> Memory:
        """The memory of decoder groups that belong to `segments` and stand at `positions` (int32[batch, groups])."""
        ahead = histories.positions[:, None, :] - positions[:, :, None]  # [batch, groups, tokens]
        seen = (histories.segments[:, None, :] == segments[:, :, None]) & (ahead <= 0)
        bias = jnp.where(seen, 0.0, MASKED)[:, None]
        if self.cross_bias is not None:
            bias += jnp.moveaxis(self.cross_bias(ahead), 0, 1)
        repeats = None
        if self.repeat_bias is not None:
            repeats = self.repeat_bias.remember(encoded, histories.tokens, seen)
        return Memory(tuple(layer.cross.remember(encoded) for layer in self.decoder), bias, repeats)

    def _decode(
        self, x: jax.Array, memory: Memory, past: tuple[KeysValues, ...] | None, dropout: Dropout
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """Decoder outputs for embedded tokens x [batch, groups, new, width] that follow those of `past`."""
        new = x.shape[2]
        length = new if past is None else new + past[0].keys.shape[2]
        keys = jnp.arange(length)
        distance = keys[None, :] - keys[length - new :, None]
        bias = self.decoder_bias(distance) + jnp.where(distance <= 0, 0.0, MASKED)
        presents = []
        for number, layer in enumerate(self.decoder):
            earlier = None if past is None else past[number]
            x, present = layer(x, bias, memory.layers[number], memory.bias, dropout, earlier)
            presents.append(present)
        return dropout(self.decoder_norm(x)), tuple(presents)

    def _logits(self, x: jax.Array, level: int, prefixes: jax.Array, memory: Memory) -> jax.Array:
        """float32[batch, groups, sizes[level]] for decoder outputs [batch, groups, width] after code `prefixes`."""
        codes = np.arange(self.sizes[level]) + self.offsets[level]
        table = self.output[...][codes[0] : codes[-1] + 1]
        logits = jnp.einsum("bgw,kw->bgk", x, table.astype(x.dtype), preferred_element_type=jnp.float32)
        if self.repeat_bias is not None:
            logits += self.repeat_bias(x, level, codes, prefixes, memory.repeats)
        return logits

    def losses(self, examples: Examples, dropout_key: jax.Array | None = None) -> jax.Array:
        """Negative log-likelihood of each target's codes, float32[batch, targets, levels]; meaningless at padding."""
        dropout = Dropout(self.cfg.dropout, dropout_key)
        encoded = self.encode(examples.histories, dropout)
        memory = self.remember(encoded, examples.histories, examples.target_segments, examples.target_positions)
        prefixes = [jnp.full(examples.target_segments.shape, code_prefixes.NO_CODES, jnp.uint32)]  # before each level
        for level in range(len(self.sizes) - 1):
            prefixes.append(code_prefixes.extend(prefixes[-1], examples.targets[:, :, level]))
        embedded = self.embedding[...][examples.targets[:, :, :-1]]
        start = jnp.broadcast_to(self.start_vector[...], (*embedded.shape[:2], 1, self.cfg.width))
        x = dropout(jnp.concatenate([start, embedded], axis=2).astype(self.cfg.compute))
        x, _ = self._decode(x, memory, None, dropout)
        losses = []
        for level, offset in enumerate(self.offsets):
            logits = self._logits(x[:, :, level], level, prefixes[level], memory)
            code = examples.targets[:, :, level] - offset
            # Padding holds token 0, which is no code of a later level.
            chosen = jnp.take_along_axis(logits, jnp.maximum(code, 0)[..., None], axis=-1)[..., 0]
            losses.append(jax.nn.logsumexp(logits, axis=-1) - chosen)
        return jnp.stack(losses, axis=-1)

    def start(self, histories: Histories) -> Memory:
        """Encodes one user a row for `step`: the next item after the whole history."""
        last = jnp.max(histories.positions, axis=1, keepdims=True)
        return self.remember(self.encode(histories), histories, jnp.ones_like(last), last)

    def step(self, memory: Memory, codes: jax.Array | None, level: int, cache: Cache | None) -> tuple[jax.Array, Cache]:
        """Logits float32[batch, beams, sizes[level]] after the codes chosen so far.

        `codes` int32[batch, beams] are those of level - 1; None at level 0, where there is one beam and no cache. The
        leaves of the cache are [batch, beams, ...]: reordering beams is one `jax.tree.map`.
        """
        if cache is None:
            batch, past = memory.bias.shape[0], None
            prefixes = jnp.full((batch, 1), code_prefixes.NO_CODES, jnp.uint32)
            x = jnp.broadcast_to(self.start_vector[...], (batch, 1, self.cfg.width))
        else:
            tokens, past = codes + self.offsets[level - 1], cache.layers
            prefixes = code_prefixes.extend(cache.prefixes, tokens)
            x = self.embedding[...][tokens]
        x, layers = self._decode(x[:, :, None].astype(self.cfg.compute), memory, past, NO_DROPOUT)
        return self._logits(x[:, :, 0], level, prefixes, memory), Cache(layers, prefixes)
