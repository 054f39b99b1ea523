"""Embeddings of code prefixes, added to those of single codes.

A code of a later level means another thing after each prefix, and the whole prefix is the item. With a vector for each
prefix, in a table that is addressed by hash, the model tells items apart as one with item ids does, and shares what is
known of their codes. Prefix n-grams as in Singh et al., "Better Generalization with Semantic IDs" (2024); there for
a ranking model, here for encoder and decoder inputs.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from genrec.sharding import constrain


class PrefixEmbedding(nnx.Module):
    """Vectors of hashed code prefixes. Prefixes of equal hash modulo `rows` share a vector."""

    def __init__(self, rows: int, width: int):
        # Zeros: an item that training never saw is known by its codes alone.
        self.table = nnx.Param(jnp.zeros((rows, width)), axes=("vocabulary", "embed"))

    def __call__(self, prefixes: jax.Array) -> jax.Array:
        """Returns [..., width] for uint32[...], the hashes of `code_prefixes`."""
        table = self.table[...]
        return constrain(table, "vocabulary")[(prefixes % jnp.uint32(table.shape[0])).astype(jnp.int32)]
