"""Beam search over semantic IDs: drives any decoder through `step`, and returns only items of the catalogue."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec.decoding import top_k
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Constraints
from genrec.decoding.sampling import Sampling

# step(codes, level, cache) -> (logits, cache). `codes` int32[batch, beams] are the codes chosen at level - 1 (None at
# level 0, where there is one beam and the cache is None); logits are [batch, beams, sizes[level]]. Every leaf of the
# cache is [batch, beams, ...]. What no beam changes, such as the encoded history, is closed over.
Step = Callable[[jax.Array | None, int, Any], tuple[jax.Array, Any]]

# finish(codes, level, cache) -> logits of each level from `level` to the last, [batch, beams, sizes[level]]. `codes`
# int32[batch, beams, n] are those of level - 1 to the last but one, all known: one pass instead of n steps.
Finish = Callable[[jax.Array, int, Any], list[jax.Array]]


class Diversity(NamedTuple):
    """How many items of a list may be alike: in the code of the first level, or in an attribute."""

    most_beams: jax.Array  # int32[batch], at least 1: during the search, of the beams; for first codes alone
    most_items: jax.Array  # int32[batch], at least 1: of the returned list
    groups: jax.Array | None  # int32[items], the attribute's value of each item; None for the first code


class RankedItems(NamedTuple):
    """Items in descending order of score, or in the order in which they were drawn.

    Where fewer items than asked for were found, item -1 and score -inf.
    """

    items: jax.Array  # int32[batch, top]
    scores: jax.Array  # float32[batch, top], log-probability of the item's semantic ID
    # float32[batch]: no item that the search left out is likelier than this. -inf where it left out none, inf where
    # nothing is known, as items were drawn or passed over for diversity.
    bound: jax.Array

    def certified(self, top: int) -> jax.Array:
        """bool[batch]: whether the first `top` items are surely the best of all eligible ones."""
        return self.bound <= self.scores[:, top - 1]


def beam_search(
    step: Step,
    index: CatalogueIndex,
    batch: int,
    beams: int,
    top: int | None = None,
    constraints: Constraints | None = None,
    sample: Sampling | None = None,
    diversity: Diversity | None = None,
    finish: Finish | None = None,
) -> RankedItems:
    """The best items that a beam search of this width finds, for each row of a batch. To be called under `jax.jit`.

    With as many beams as items it is exhaustive, and therefore exact. Of equal scores, the item that stands first in
    the sorted table comes first: the one with the lower codes, and of equal codes the one with the lower number.

    Args:
      step: The decoder.
      index: The catalogue.
      batch: Rows.
      beams: Width of the search.
      top: Length of the lists, by default the width.
      constraints: What each row may get; by default all items.
      sample: Draws items without replacement instead of taking the best.
      diversity: Limits how many are alike.
      finish: Scores the remaining levels at once where every beam has come down to one item. A decoder without it
        steps on.
    """
    top = beams if top is None else top
    if not 1 <= top <= beams:
        raise ValueError(f"a beam search needs at least one beam, and no more items than beams: not {top} of {beams}")
    most_beams = diversity.most_beams if diversity is not None and diversity.groups is None else None

    def advance(state: BeamState, codes: jax.Array | None, cache: Any) -> BeamState:
        """To the last level, one level at a time."""
        level = state.level
        if level == index.levels:
            return state
        if finish is not None and state.beams == beams and level >= index.tables and index.levels - level > 1:
            return jax.lax.cond(index.single(state), at_once, one_level, state, codes, cache)
        return one_level(state, codes, cache)

    def one_level(state: BeamState, codes: jax.Array | None, cache: Any) -> BeamState:
        logits, cache = step(codes, state.level, cache)
        last = state.level + 1 == index.levels
        # The first levels may have fewer prefixes than beams: the model then computes no dead ones.
        width = beams if last else min(beams, state.beams * index.sizes[state.level])
        chosen = index.expand(state, logits, width, constraints, sample, most_beams)
        if last:
            return chosen.state
        if state.beams == width:
            cache = jax.lax.cond(chosen.kept, lambda cache, _: cache, reorder, cache, chosen.parents)
        else:
            cache = reorder(cache, chosen.parents)
        return advance(chosen.state, chosen.codes, cache)

    def at_once(state: BeamState, codes: jax.Array, cache: Any) -> BeamState:
        following = index.remaining(state)
        all_logits = finish(jnp.stack([codes, *following[:-1]], axis=-1), state.level, cache)
        for logits, codes in zip(all_logits, following, strict=True):
            state = index.follow(state, logits, codes)
        return state

    state = advance(index.start(batch), None, None)
    items, scores, roots = index.best_items(state, constraints)
    bound = state.pruned
    if sample is not None or diversity is not None:
        bound = jnp.full_like(bound, jnp.inf)
    if diversity is not None:
        items, scores = _limited(items, scores, roots, diversity)
    missing = ((0, 0), (0, max(0, top - items.shape[1])))
    items = jnp.pad(items[:, :top], missing, constant_values=-1)
    return RankedItems(items, jnp.pad(scores[:, :top], missing, constant_values=-jnp.inf), bound)


def reorder(cache: Any, parents: jax.Array) -> Any:
    """leaf[b, parents[b, k]] as [batch, k, ...] of all leaves: each new beam takes its parent's part."""
    return jax.tree.map(lambda leaf: leaf[jnp.arange(leaf.shape[0])[:, None], parents], cache)


def _limited(
    items: jax.Array, scores: jax.Array, roots: jax.Array, diversity: Diversity
) -> tuple[jax.Array, jax.Array]:
    """Lists without those items of which there are too many alike before them."""
    places = jnp.arange(items.shape[1])
    groups = roots if diversity.groups is None else diversity.groups[items]
    keys = jnp.where(items >= 0, -places.astype(jnp.float32), -jnp.inf)
    passed = top_k.at_most(keys, groups, diversity.most_items) > -jnp.inf
    order = jnp.argsort(~passed, axis=1, stable=True)
    items, scores = jnp.where(passed, items, -1), jnp.where(passed, scores, -jnp.inf)
    return jnp.take_along_axis(items, order, axis=1), jnp.take_along_axis(scores, order, axis=1)
