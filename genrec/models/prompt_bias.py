"""Prompt bias: the values that a prompt names raise or lower the logits of the codes that lead to their items.

Codes are learned from texts and sequences as a whole: the items of a topic, or of a mood, may share none. But which
items have a value that a prompt names is known (`input_pipeline.mentions`). So each mention gets a learned number w:
how much it is wanted ("some jazz"), or refused ("no jazz"), where w is below 0. Each word before and after the mention,
and each pair of words, adds a number of its own: these are soon learned, and hold in any phrase. So does the encoder
output of the mention's last token, which knows the whole prompt.

An item is tilted by exp(w), for all mentions of what it has, and a code by the mean over the items that it leads to
after the codes before it. The logarithm of that mean, relative to that of the prefix, is added to the logit: there is
one softmax a level as before, and likelihoods of items stay exact. Where no value is named it is 0.

The training fits w to how often prompts of its templates are fulfilled, in words that it knows. Who asks in other words
means it no less: searches and scores take SHARPNESS times w, up to CLEAR. The sign, what is asked for and what is
refused, is as it was learned.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from genrec.input_pipeline.examples import Array
from genrec.input_pipeline.mentions import EXISTS, MOST, Mentions
from genrec.input_pipeline.transitions import FLOOR
from genrec.models import code_prefixes

START = 6.0  # w before training: words ask for what they name
SHARPNESS = 3.0  # chosen of 1, 1.5, 2, 2.5 and 3 by validation users of the streaming catalogue (docs/benchmarks.md)
CLEAR = 10.0  # the most that w is after SHARPNESS
LOWEST = -16.0  # logarithm of the least tilt: of less, integers would keep nothing in a search
STEP = 20.0  # the optimizer changes a parameter by about the learning rate in a step, and w by this much more
PAIRS = 1 << 14  # numbers of pairs of words, which share them by a hash
UNITS = 2.0**31  # the sum of the tilts of all rows, as integers


class PromptBias(nnx.Module):
    """Tilts of items by the mentions of prompts, for `columns` columns and `pieces` pieces of the vocabulary."""

    def __init__(self, columns: int, pieces: int, width: int):
        self.of_column = nnx.Param(jnp.zeros(columns))
        self.before, self.after = nnx.Param(jnp.zeros(pieces + PAIRS)), nnx.Param(jnp.zeros(pieces + PAIRS))
        self.from_encoder = nnx.Param(jnp.zeros((columns, width)))

    def log_tilts(self, encoded: jax.Array, mentions: Mentions, sharp: bool = True) -> jax.Array:
        """Returns float32[batch, groups, n]: for each item, the sum of w of all mentions of what it has.

        `encoded` is [batch, tokens, width]; w is that of training if not `sharp`.
        """
        batch = jnp.arange(encoded.shape[0])[:, None, None]
        at, columns = jnp.asarray(mentions.places), jnp.asarray(mentions.columns)  # [batch, groups, MOST]
        vectors = self.from_encoder[...][columns].astype(encoded.dtype)
        numbers = jnp.einsum("bgmw,bgmw->bgm", encoded[batch, at], vectors, preferred_element_type=jnp.float32)
        words = self.of_column[...][columns] + _sum(self.before[...], mentions.before)
        words += _sum(self.after[...], mentions.after)
        numbers += START + STEP * words
        if sharp:
            numbers = jnp.clip(SHARPNESS * numbers, -CLEAR, CLEAR)
        numbers = jnp.where(columns >= 0, numbers, 0)
        # One mention after another: all of them at once would take MOST times the memory.
        items = jnp.asarray(mentions.items)
        of_mentions = (jnp.where((items & (1 << k)) > 0, numbers[..., k, None], 0) for k in range(MOST))
        return functools.reduce(jnp.add, of_mentions)


def _tilts(log_tilts: jax.Array) -> jax.Array:
    """Returns the tilt of each item relative to the greatest of its group, from exp(LOWEST) to 1."""
    relative = log_tilts - jax.lax.stop_gradient(log_tilts.max(axis=-1, keepdims=True))
    return jnp.exp(jnp.maximum(relative, LOWEST))


def _sum(table: jax.Array, pieces: Array) -> jax.Array:
    """Returns float32[...]: the sum over the pieces int32[..., n], and the pairs of adjacent ones, of their numbers.

    `table` has the numbers of pieces, and then those of PAIRS pairs: "but" alone tells less than "anything but".
    """
    first, second = jnp.asarray(pieces)[..., :-1], jnp.asarray(pieces)[..., 1:]
    mixed = first.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) + second.astype(jnp.uint32) * jnp.uint32(0x85EBCA6B)
    pairs = table.shape[0] - PAIRS + (mixed >> 18).astype(jnp.int32)  # the upper 14 bits
    of_pieces = jnp.where(jnp.asarray(pieces) >= 0, table[pieces], 0).sum(axis=-1)
    return of_pieces + jnp.where((first >= 0) & (second >= 0), table[pairs], 0).sum(axis=-1)


def lifts(
    log_tilts: jax.Array, mentions: Mentions, sizes: Sequence[int], prefixes: Sequence[jax.Array]
) -> list[jax.Array]:
    """Returns what is added to the logits of each level, float32[batch, groups, codes], where the targets are known.

    `log_tilts` are [batch, groups or 1, items]; `prefixes` uint32[batch, groups] are hashes of the codes before it.
    """
    assert mentions.catalogue is not None, "the mentions are those of a search"
    tokens, found, first = jnp.asarray(mentions.catalogue.tokens), [], 0
    tilts = _tilts(log_tilts)
    of_items = jnp.full(len(tokens), code_prefixes.NO_CODES, jnp.uint32)
    for level, size in enumerate(sizes):
        is_code = (tokens[:, level, None] == first + jnp.arange(size)).astype(jnp.float32)  # [items, codes]
        after = (of_items == prefixes[level][..., None]).astype(jnp.float32)  # [batch, groups, items]
        tilted, even = (jnp.einsum("bgi,ik->bgk", mass, is_code) for mass in (tilts * after, after))
        found.append(_log_shares(tilted) - _log_shares(even))
        of_items, first = code_prefixes.extend(of_items, tokens[:, level]), first + size
    return found


def _log_shares(sums: jax.Array) -> jax.Array:
    # Padding has prefixes that no item has.
    return jnp.log(sums / jnp.maximum(sums.sum(axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny) + FLOOR)


def cumulated(log_tilts: jax.Array, mentions: Mentions) -> tuple[jax.Array, jax.Array]:
    """Returns what `CatalogueIndex.log_shares` reads, for [batch, 1, rows]: of the tilts, and of equal ones.

    Both are uint32[batch, rows + 1]. The log-shares of the first less those of the second are the `lifts`.
    """
    exists = (jnp.asarray(mentions.items)[:, 0] & EXISTS) > 0
    tilts = jnp.where(exists, _tilts(log_tilts)[:, 0], 0)
    masses = jnp.maximum(jnp.round(tilts * (UNITS / tilts.sum(axis=1, keepdims=True))), exists)
    return _cumulated(masses), _cumulated(exists)


def _cumulated(masses: jax.Array) -> jax.Array:
    return jnp.pad(jnp.cumsum(masses.astype(jnp.uint32), axis=1, dtype=jnp.uint32), ((0, 0), (1, 0)))
