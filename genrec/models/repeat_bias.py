"""Whether users choose an item again, as a part of the logits.

In a log of purchases an item hardly ever comes back, in a log of songs it often does. A decoder that spells codes can
learn this only by recalling, at each level, which codes of the history go on from the prefix that it has spelled. Here
that is a comparison: codes with which an item of the history goes on get a learned number added. The number depends on
what the encoder made of that item (how recent, how often, what it is) and on what the decoder is about to say.

The idea of a repeat mode of its own is from RepeatNet (Ren et al. 2019), which mixes two distributions over items; an
addition to the logits of codes keeps one softmax per level, and with it the exact likelihood of an item.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from genrec.models import code_prefixes


class SeenCodes(NamedTuple):
    """The codes of the histories, with what the encoder says of them."""

    seen: jax.Array  # bool[batch, groups or 1, tokens], which of them each group may see
    tokens: jax.Array  # int32[batch, tokens]
    prefixes: jax.Array  # uint32[batch, tokens], hash of the codes before the token in its item
    numbers: jax.Array  # float32[batch, tokens], to add to the token's logit


class RepeatBias(nnx.Module):
    """`sizes` are the codes per level."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        self.sizes = sizes
        # Zeros, so that the codes of the history start like all others.
        self.from_encoder = nnx.Param(jnp.zeros((len(sizes), width)))
        self.from_decoder = nnx.Param(jnp.zeros((len(sizes), width)))

    def project_kv(self, encoded: jax.Array, tokens: jax.Array, seen: jax.Array) -> SeenCodes:
        """For encoder outputs [batch, tokens, width] of `tokens`; `seen` bool[batch, groups or 1, tokens]."""
        history = code_prefixes.of_history(tokens, self.sizes)
        vectors = self.from_encoder[...][history.levels].astype(encoded.dtype)
        numbers = jnp.einsum("btw,btw->bt", encoded, vectors, preferred_element_type=jnp.float32)
        return SeenCodes(seen, tokens, history.prefixes, numbers)

    def __call__(
        self, x: jax.Array, level: int, codes: jax.Array, prefixes: jax.Array, history: SeenCodes
    ) -> jax.Array:
        """What to add to the logits of a level's codes, float32[batch, groups, codes].

        x [batch, groups, width] are the decoder's outputs after `prefixes` uint32[batch, groups]; `codes` int32[codes]
        are the level's tokens. Where several items of the history go on with the same code, their mean counts.
        """
        same_prefix = history.seen & (history.prefixes[:, None, :] == prefixes[:, :, None])  # [batch, groups, tokens]
        same_prefix = same_prefix.astype(jnp.float32)
        is_code = (history.tokens[..., None] == codes).astype(jnp.float32)  # [batch, tokens, codes]
        times = jnp.einsum("bgt,btk->bgk", same_prefix, is_code)
        numbers = jnp.einsum("bgt,btk->bgk", same_prefix * history.numbers[:, None], is_code)
        vector = self.from_decoder[...][level].astype(x.dtype)
        number = jnp.einsum("bgw,w->bg", x, vector, preferred_element_type=jnp.float32)
        return numbers / jnp.maximum(times, 1) + number[..., None] * (times > 0)
