"""Repeat consumption: a learned bias on the logits of codes that lead to items of the history.

Purchases are hardly ever repeated, songs often. A decoder that generates codes could learn this only by recalling, at
each level, which codes of the history continue the prefix generated so far. Here that is a comparison: a code that
continues the prefix to an item of the history gets a learned number added to its logit. The number depends on the
encoder output of that item (how recent, how often, what it is) and on the decoder output.

RepeatNet (Ren et al. 2019) has a separate repeat mode, a mixture of two distributions over items; adding to the logits
keeps one softmax per level, and with it the exact likelihood of an item.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec.input_pipeline.examples import Array
from genrec.models import code_prefixes


class SeenCodes(NamedTuple):
    """The codes of the histories, with a bias for each."""

    seen: jax.Array  # bool[batch, groups or 1, tokens], the tokens to which each group attends
    tokens: Array  # int32[batch, tokens]
    prefixes: jax.Array  # uint32[batch, tokens], hash of the codes before the token in its item
    numbers: jax.Array  # float32[batch, tokens], added to the token's logit


class RepeatBias(nnx.Module):
    """Bias on the logits of codes by whether the history has them; `sizes` are the codes per level."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        self.sizes = sizes
        # Zeros: at the start of training, codes of the history are like all others.
        self.from_encoder = nnx.Param(jnp.zeros((len(sizes), width)))
        self.from_decoder = nnx.Param(jnp.zeros((len(sizes), width)))

    def project_kv(self, encoded: jax.Array, tokens: Array, seen: jax.Array) -> SeenCodes:
        """Returns the codes of `tokens`, whose encoder outputs are [batch, tokens, width]; `seen` as in `SeenCodes`."""
        history = code_prefixes.of_history(tokens, self.sizes)
        vectors = self.from_encoder[...][history.levels].astype(encoded.dtype)
        numbers = jnp.einsum("btw,btw->bt", encoded, vectors, preferred_element_type=jnp.float32)
        return SeenCodes(seen, tokens, history.prefixes, numbers)

    def __call__(
        self, x: jax.Array, level: int, codes: np.ndarray, prefixes: jax.Array, history: SeenCodes
    ) -> jax.Array:
        """Returns what is added to the logits of a level's codes, float32[batch, groups, codes].

        x [batch, groups, width] are the decoder outputs after `prefixes` uint32[batch, groups]; `codes` int32[codes]
        are the level's tokens. Where several items of the history continue with the same code, the mean is taken.
        """
        same_prefix = history.seen & (history.prefixes[:, None, :] == prefixes[:, :, None])  # [batch, groups, tokens]
        same_prefix = same_prefix.astype(jnp.float32)
        is_code = (history.tokens[..., None] == codes).astype(jnp.float32)  # [batch, tokens, codes]
        times = jnp.einsum("bgt,btk->bgk", same_prefix, is_code)
        numbers = jnp.einsum("bgt,btk->bgk", same_prefix * history.numbers[:, None], is_code)
        vector = self.from_decoder[...][level].astype(x.dtype)
        number = jnp.einsum("bgw,w->bg", x, vector, preferred_element_type=jnp.float32)
        return numbers / jnp.maximum(times, 1) + number[..., None] * (times > 0)
