"""Beam search over semantic IDs: drives any decoder through `step`, and returns only items of the catalogue."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec.decoding.catalogue_index import CatalogueIndex

# step(codes, level, cache) -> (logits, cache). `codes` int32[batch, beams] are the codes chosen at level - 1 (None at
# level 0, where there is one beam and the cache is None); logits are [batch, beams, sizes[level]]. Every leaf of the
# cache is [batch, beams, ...]. What no beam changes, such as the encoded history, is closed over.
Step = Callable[[jax.Array | None, int, Any], tuple[jax.Array, Any]]


class Beams(NamedTuple):
    """Items in descending order of score. Where fewer items than beams were found, item -1 and score -inf."""

    items: jax.Array  # int32[batch, beams], rows of the catalogue
    scores: jax.Array  # float32[batch, beams], log-probability of the item's semantic ID


def beam_search(step: Step, index: CatalogueIndex, batch: int, beams: int) -> Beams:
    """The best items that a beam search of this width finds, for each row of a batch. To be called under `jax.jit`.

    With as many beams as items it is exhaustive, and therefore exact. Of equal scores, the item whose prefix stood
    higher at the level above comes first, then the lower code.
    """
    if beams < 1:
        raise ValueError(f"a beam search needs at least one beam, not {beams}")
    state = index.start(batch)
    codes, cache = None, None
    for level, size in enumerate(index.sizes):
        logits, cache = step(codes, level, cache)
        last = level + 1 == index.levels
        # The first levels may have fewer prefixes than beams: the model then computes no dead ones.
        width = beams if last else min(beams, state.beams * size)
        parents, codes, _, state = index.expand(state, logits, width)
        if not last:
            cache = jax.tree.map(lambda leaf: _reorder(leaf, parents), cache)  # noqa: B023, called at once
    return Beams(index.items(state), state.scores)


def _reorder(leaf: jax.Array, parents: jax.Array) -> jax.Array:
    """leaf[b, parents[b, k]] as [batch, k, ...]: each new beam takes its parent's part."""
    return leaf[jnp.arange(leaf.shape[0])[:, None], parents]
