"""Code prefixes: the first one, two, ... codes of an item, as hashes that encoder and decoder compute alike.

The tokens of a semantic ID say which code stands at which level, but a code means little without those before it. What
belongs to a whole prefix is found by its hash, so that it needs no table of the catalogue and holds for new items too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NO_CODES = 0  # the hash of the empty prefix


class HistoryCodes(NamedTuple):
    """What each encoder token is as a code of its item."""

    levels: jax.Array  # int32[batch, tokens]; -1 for tokens of users
    prefixes: jax.Array  # uint32[batch, tokens], hash of the item's codes before this one


def extend(prefixes: jax.Array, tokens: jax.Array) -> jax.Array:
    """uint32: hashes of prefixes that go on with the codes of `tokens`. The same on every machine.

    For example `extend(extend(NO_CODES, first), second)` is the hash of an item's first two codes.
    """
    mixed = (prefixes ^ tokens.astype(jnp.uint32)) * jnp.uint32(0x9E3779B1)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA6B)
    return mixed ^ (mixed >> 13)


def of_history(tokens: jax.Array, sizes: tuple[int, ...]) -> HistoryCodes:
    """The codes of int32[batch, tokens], in which the tokens of an item stand side by side, level after level."""
    ends = jnp.array(np.cumsum(sizes))
    levels = jnp.searchsorted(ends, tokens, side="right").astype(jnp.int32)
    levels = jnp.where(levels < len(sizes), levels, -1)
    prefixes = jnp.full(tokens.shape, NO_CODES, jnp.uint32)
    for level in range(1, len(sizes)):
        before = jnp.roll(extend(prefixes, tokens), 1, axis=1)  # the token before is of the same item
        prefixes = jnp.where(levels == level, before, prefixes)
    return HistoryCodes(levels, prefixes)
