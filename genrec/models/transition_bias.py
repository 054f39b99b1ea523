"""Transition bias: what sparse transitions say of codes, added to the logits with a learned weight.

Counts and content (`input_pipeline.transitions`) already tell much of the next item. Their probabilities, summed over
the items under each code, give a distribution over the codes of a level after a prefix; its logarithm, times a weight,
is added to the logits of the decoder. The weight depends on the level and on the decoder output, so that the network
decides where to trust it, and learns only what the transitions do not know. The product of the two distributions is
normalized per level as before: likelihoods of items stay exact, and one search finds the best of both.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class TransitionBias(nnx.Module):
    """Bias on the logits of codes by their log-shares of the transitions."""

    def __init__(self, levels: int, width: int):
        # At the start of training the decoder says nothing, and the transitions are trusted as they are.
        self.weight = nnx.Param(jnp.ones(levels))
        self.from_decoder = nnx.Param(jnp.zeros((levels, width)))

    def __call__(self, x: jax.Array, level: int, log_shares: jax.Array) -> jax.Array:
        """Returns what is added to the logits of a level, float32[batch, groups, codes].

        x [batch, groups, width] are the decoder outputs, `log_shares` float32[batch, groups, codes] those of the codes.
        """
        vector = self.from_decoder[...][level].astype(x.dtype)
        change = jnp.einsum("bgw,w->bg", x, vector, preferred_element_type=jnp.float32)
        return (self.weight[...][level] + change)[..., None] * log_shares
