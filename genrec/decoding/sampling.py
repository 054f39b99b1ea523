"""Sampling without replacement: Gumbel top-k over the tree of codes (Kool, van Hoof & Welling 2019).

The k largest of the log-probabilities of all items plus independent Gumbel noise are k draws without replacement. The
items need not be enumerated: the maximum of the perturbed log-probabilities below a prefix is Gumbel-distributed too,
so it is sampled top down, for the children of a beam conditioned on their maximum being the value of the parent.

The distribution is the model's at a temperature, renormalized at each level over the codes that lead to an eligible
item and truncated to the smallest set of codes whose probabilities reach `top_p`. The scores of a search that samples
stay the model's own log-probabilities.
"""

from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp

from genrec.decoding.index_arrays import ArrayT


class Sampling(NamedTuple, Generic[ArrayT]):
    """Sampling parameters of each row of a batch."""

    temperature: ArrayT  # float32[batch], above 0; the lower, the closer to the most likely items
    top_p: ArrayT | None  # float32[batch], above 0; None samples from all codes, without sorting them
    seeds: ArrayT  # int32[batch]; the draws of a row depend on its own seed only


class PerturbedScores(NamedTuple):
    """Log-probabilities of beams or children under the sampling distribution; both are 0 for the root."""

    log_probabilities: jax.Array  # float32[batch, ...]
    with_noise: jax.Array  # float32[batch, ...], with Gumbel noise: beams are selected by these


def gumbel_noise(seeds: jax.Array, level: int, shape: tuple[int, ...]) -> jax.Array:
    """Draws the Gumbel noise float32[batch, *shape] of a level from seeds int32[batch]."""
    return jax.vmap(lambda seed: jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), level), shape))(seeds)


def perturb(
    parents: PerturbedScores,
    scores: jax.Array,
    parent_scores: jax.Array,
    noise: jax.Array,
    sampling: Sampling[jax.Array],
) -> PerturbedScores:
    """Returns the perturbed scores [batch, beams, children] of all children, conditioned on those of their parents.

    `scores` float32[batch, beams, children] are the model's log-probabilities, -inf for no child; `parents` and
    `parent_scores` are [batch, beams]; `noise` float32[batch, beams, children] is `gumbel_noise`.
    """
    live = parent_scores > -jnp.inf
    logits = (scores - jnp.where(live, parent_scores, 0)[..., None]) / sampling.temperature[:, None, None]
    log_shares = _log_softmax(logits)
    if sampling.top_p is not None:
        log_shares = _log_softmax(jnp.where(_nucleus(log_shares, sampling.top_p), log_shares, -jnp.inf))
    log_probabilities = jnp.where(live, parents.log_probabilities, -jnp.inf)[..., None] + log_shares
    return PerturbedScores(log_probabilities, _conditioned(log_probabilities + noise, parents.with_noise))


def _log_softmax(x: jax.Array) -> jax.Array:
    """Returns the log-softmax over the last axis; all -inf where no value is finite."""
    total = jax.nn.logsumexp(x, axis=-1, keepdims=True)
    return jnp.where(x > -jnp.inf, x - total, -jnp.inf)


def _nucleus(log_shares: jax.Array, top_p: jax.Array) -> jax.Array:
    """Returns bool[batch, beams, children]: the most likely children until their shares reach top_p; at least one."""
    order = jnp.argsort(-log_shares, axis=-1, stable=True)
    shares = jnp.exp(jnp.take_along_axis(log_shares, order, axis=-1))
    before = jnp.cumsum(shares, axis=-1) - shares
    inside = before < top_p[:, None, None]
    return jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1)


def _conditioned(free: jax.Array, largest: jax.Array) -> jax.Array:
    """Shifts Gumbel values [batch, beams, children] so that the maximum of each beam is `largest` [batch, beams].

    Numerically stable as in appendix B.3 of the paper.
    """
    top = free.max(axis=-1, keepdims=True)
    some = top > -jnp.inf
    largest = largest[..., None]
    below = free - jnp.where(some, top, 0)  # at most 0
    v = largest - free + jnp.log1p(-jnp.exp(jnp.minimum(below, -1e-30)))
    moved = largest - jnp.maximum(v, 0) - jnp.log1p(jnp.exp(-jnp.abs(v)))
    moved = jnp.where(below >= 0, largest, moved)
    return jnp.where((free > -jnp.inf) & some, moved, -jnp.inf)
