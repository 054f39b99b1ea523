"""Beam search over semantic IDs with any decoder, constrained to the items of a catalogue."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genrec.decoding import top_k
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Expansion, MaybeConstraints
from genrec.decoding.index_arrays import ArrayT
from genrec.decoding.sampling import Sampling

# step(codes, level, cache, log_shares) -> (logits, cache). `codes` int32[batch, beams] are those chosen at level - 1,
# None at level 0, where there is one beam and the cache is None; logits are [batch, beams, sizes[level]]. Every leaf of
# the cache is [batch, beams, ...]. Values common to all beams, such as the encoded history, are closed over.
# `log_shares` are those of the transitions, which a search without them leaves out.
Step = Callable[..., tuple[jax.Array, Any]]

# finish(codes, level, cache, log_shares) -> logits of each level from `level` to the last, [batch, beams, codes]: one
# pass instead of n steps. `codes` int32[batch, beams, n] are the known codes of level - 1 to the last but one.
Finish = Callable[..., list[jax.Array]]


class Tilt(NamedTuple):
    """A prompt bias on the logits of all levels (models.prompt_bias), as two inputs of `CatalogueIndex.log_shares`."""

    tilted: jax.Array  # uint32[batch, rows + 1]
    even: jax.Array  # uint32[batch, rows + 1]
    weight: jax.Array  # float32[] or [batch, 1, 1]


class Diversity(NamedTuple, Generic[ArrayT]):
    """Limits on the items of a list that have the same code of the first level, or the same attribute."""

    max_beams: ArrayT | None  # int32[batch], at least 1: beams with the same first code during the search
    max_items: ArrayT  # int32[batch], at least 1: items of the returned list
    groups: ArrayT | None  # int32[items], the attribute of each item; None for the first code


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RankedItems(Generic[ArrayT]):
    """Items in descending order of score or, if sampled, in order of the draws; padded with item -1, score -inf."""

    items: ArrayT  # int32[batch, top]
    scores: ArrayT  # float32[batch, top], log-probability of the item's semantic ID
    # float32[batch], an upper bound on the scores of all eligible items that the search did not find: -inf if there are
    # none, inf if unknown, because items were sampled or left out for diversity.
    bound: ArrayT

    def certified(self, top: int) -> ArrayT:
        """Returns bool[batch]: whether the first `top` items are certainly the best of all eligible items."""
        return self.bound <= self.scores[:, top - 1]

    def on_host(self) -> "RankedItems[np.ndarray]":
        """Returns a writable copy in NumPy arrays."""
        return RankedItems(np.array(self.items), np.array(self.scores), np.array(self.bound))


def beam_search(
    step: Step,
    index: CatalogueIndex,
    batch: int,
    beams: int,
    top: int | None = None,
    constraints: MaybeConstraints = None,
    sampling: Sampling[jax.Array] | None = None,
    diversity: Diversity[jax.Array] | None = None,
    finish: Finish | None = None,
    transitions: jax.Array | None = None,
    tilt: Tilt | None = None,
) -> RankedItems[jax.Array]:
    """Returns the best items that a beam search finds for each row of a batch. Call it under `jax.jit`.

    With as many beams as items it is exhaustive, and therefore exact. Of equal scores, the item that is first in the
    sorted table comes first: the one with the lower codes, and of equal codes the one with the lower number.

    Args:
      step: The decoder.
      index: The catalogue.
      batch: Number of rows.
      beams: Width of the search.
      top: Length of the lists, at most the width, which is the default.
      constraints: The eligible items of each row, by default all items.
      sampling: Samples items without replacement instead of taking the best.
      diversity: Limits similar items.
      finish: Scores the remaining levels in one pass when every beam has a single item left.
      transitions: For a decoder with a transition bias, the cumulated probabilities of rows, see
        `CatalogueIndex.log_shares`.
      tilt: For a decoder with a prompt bias, of its prompts.
    """
    top = beams if top is None else top
    if not 1 <= top <= beams:
        raise ValueError(f"top={top} and beams={beams}: a beam search needs 1 <= top <= beams")
    limit = None if diversity is None else diversity.max_beams
    expand = functools.partial(index.expand, constraints=constraints, sampling=sampling, limit=limit)
    state = _last_level(step, finish, index, batch, beams, expand, transitions, tilt)
    items, scores, roots = index.best_items(state, constraints)
    bound = state.pruned
    if sampling is not None or diversity is not None:
        bound = jnp.full_like(bound, jnp.inf)
    if diversity is not None:
        items, scores = _limited(items, scores, roots, diversity)
    missing = ((0, 0), (0, max(0, top - items.shape[1])))
    items = jnp.pad(items[:, :top], missing, constant_values=-1)
    return RankedItems(items, jnp.pad(scores[:, :top], missing, constant_values=-jnp.inf), bound)


def _last_level(
    step: Step,
    finish: Finish | None,
    index: CatalogueIndex,
    batch: int,
    beams: int,
    expand: Callable[..., Expansion],
    transitions: jax.Array | None,
    tilt: Tilt | None,
) -> BeamState:
    """Returns the state after the last level; `expand` is `index.expand` with the settings of the search."""

    def advance(state: BeamState, codes: jax.Array | None, cache: Any) -> BeamState:
        level = state.level
        if level == index.levels:
            return state
        if finish is not None and state.beams == beams and level >= index.tables and index.levels - level > 1:
            return jax.lax.cond(index.single(state), finish_levels, one_level, state, codes, cache)
        return one_level(state, codes, cache)

    def one_level(state: BeamState, codes: jax.Array | None, cache: Any) -> BeamState:
        shares = {} if transitions is None else {"log_shares": index.log_shares(state, transitions)}
        logits, cache = step(codes, state.level, cache, **shares)
        if tilt is not None:
            logits += tilt.weight * (index.log_shares(state, tilt.tilted) - index.log_shares(state, tilt.even))
        last = state.level + 1 == index.levels
        # The first levels may have fewer prefixes than beams: the decoder then computes no dead beams.
        width = beams if last else min(beams, state.beams * index.sizes[state.level])
        chosen = expand(state, logits, width)
        if last:
            return chosen.state
        if state.beams == width:
            cache = jax.lax.cond(chosen.kept, lambda cache, _: cache, reorder_cache, cache, chosen.parents)
        else:
            cache = reorder_cache(cache, chosen.parents)
        return advance(chosen.state, chosen.codes, cache)

    def finish_levels(state: BeamState, codes: jax.Array, cache: Any) -> BeamState:
        assert finish is not None  # checked by `advance`
        following = index.remaining(state)
        shares = {}
        if transitions is not None:
            shares = {"log_shares": [index.only_log_shares(state.level + n, one) for n, one in enumerate(following)]}
        all_logits = finish(jnp.stack([codes, *following[:-1]], axis=-1), state.level, cache, **shares)
        # A prompt bias is 0 for beams of a single row.
        for logits, codes in zip(all_logits, following, strict=True):
            state = index.follow(state, logits, codes)
        return state

    return advance(index.start(batch), None, None)


def reorder_cache(cache: Any, parents: jax.Array) -> Any:
    """Returns leaf[b, parents[b, k]] as [batch, k, ...] of all leaves: each new beam takes the part of its parent."""
    return jax.tree.map(lambda leaf: leaf[jnp.arange(leaf.shape[0])[:, None], parents], cache)


def _limited(
    items: jax.Array, scores: jax.Array, roots: jax.Array, diversity: Diversity[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns the lists without the items beyond the limit of their group."""
    places = jnp.arange(items.shape[1])
    groups = roots if diversity.groups is None else diversity.groups[items]
    ranks = jnp.where(items >= 0, -places.astype(jnp.float32), -jnp.inf)
    passed = top_k.limit_per_group(ranks, groups, diversity.max_items) > -jnp.inf
    order = jnp.argsort(~passed, axis=1, stable=True)
    items, scores = jnp.where(passed, items, -1), jnp.where(passed, scores, -jnp.inf)
    return jnp.take_along_axis(items, order, axis=1), jnp.take_along_axis(scores, order, axis=1)
