"""Hashes of code prefixes, the first one, two, ... codes of an item, computed alike in encoder and decoder.

A code means little without the codes before it. Prefixes are compared by hash, which needs no table of the catalogue,
so that it works for new items too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genrec.input_pipeline.examples import Array

NO_CODES = 0  # the hash of the empty prefix


class HistoryCodes(NamedTuple):
    """The level and the prefix of each encoder token as a code of its item."""

    levels: jax.Array  # int32[batch, tokens]; -1 for tokens that are not codes
    prefixes: jax.Array  # uint32[batch, tokens], hash of the item's codes before this one


def extend(prefixes: jax.Array, tokens: Array) -> jax.Array:
    """Returns uint32, the hashes of `prefixes` extended by the codes of `tokens`; the same on every machine.

    For example `extend(extend(NO_CODES, first), second)` is the hash of an item's first two codes.
    """
    mixed = (prefixes ^ tokens.astype(jnp.uint32)) * jnp.uint32(0x9E3779B1)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA6B)
    return mixed ^ (mixed >> 13)


def of_history(tokens: Array, sizes: tuple[int, ...]) -> HistoryCodes:
    """Returns the codes among encoder tokens int32[batch, tokens]; those of an item are adjacent, level after level."""
    ends = jnp.array(np.cumsum(sizes))
    levels = jnp.searchsorted(ends, tokens, side="right").astype(jnp.int32)
    levels = jnp.where(levels < len(sizes), levels, -1)
    prefixes = jnp.full(tokens.shape, NO_CODES, jnp.uint32)
    for level in range(1, len(sizes)):
        before = jnp.roll(extend(prefixes, tokens), 1, axis=1)  # the token before is of the same item
        prefixes = jnp.where(levels == level, before, prefixes)
    return HistoryCodes(levels, prefixes)
