"""Sampling items without replacement: Gumbel top-k over the tree of codes (Kool, van Hoof & Welling 2019).

Adding independent Gumbel noise to the log-probabilities of all items and taking the k largest draws k items without
replacement. Nobody has to list the items: the largest noisy value below a prefix is itself distributed like one, so it
can be drawn top down, for the children of a beam under the condition that the largest of them is their parent's.

What is drawn from is the model at a temperature, each level renormalized over the codes that lead to an eligible item,
and cut to the smallest set of codes whose probabilities reach `top_p`. The scores of a search that samples stay the
model's own log-probabilities.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sampling(NamedTuple):
    """How each row of a batch samples."""

    temperature: jax.Array  # float32[batch], above 0: below 1 keeps closer to the likeliest
    top_p: jax.Array | None  # float32[batch], above 0; None samples from all codes, without having to sort them
    seeds: jax.Array  # int32[batch]: what a row draws depends on its own seed alone


class Drawn(NamedTuple):
    """What sampling remembers of each beam, or of each child. Both are 0 for the whole catalogue."""

    log_probabilities: jax.Array  # float32[batch, ...], of what is drawn from
    perturbed: jax.Array  # float32[batch, ...], the same with Gumbel noise: what is chosen by


def noise(seeds: jax.Array, level: int, shape: tuple[int, ...]) -> jax.Array:
    """Gumbel noise float32[batch, *shape] of a level, from seeds int32[batch]."""
    return jax.vmap(lambda seed: jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), level), shape))(seeds)


def draw(parents: Drawn, scores: jax.Array, parent_scores: jax.Array, noise: jax.Array, how: Sampling) -> Drawn:
    """Draws all children.

    Args:
      parents: Of [batch, beams].
      scores: float32[batch, beams, children], their log-probabilities for the model, -inf for none.
      parent_scores: float32[batch, beams].
      noise: float32[batch, beams, children], of `noise`.
      how: Temperature and top_p.

    Returns:
      Of [batch, beams, children]; -inf where there is no child.
    """
    live = parent_scores > -jnp.inf
    logits = (scores - jnp.where(live, parent_scores, 0)[..., None]) / how.temperature[:, None, None]
    log_shares = _log_softmax(logits)
    if how.top_p is not None:
        log_shares = _log_softmax(jnp.where(_nucleus(log_shares, how.top_p), log_shares, -jnp.inf))
    log_probabilities = jnp.where(live, parents.log_probabilities, -jnp.inf)[..., None] + log_shares
    return Drawn(log_probabilities, _conditioned(log_probabilities + noise, parents.perturbed))


def _log_softmax(x: jax.Array) -> jax.Array:
    """Over the last axis; all -inf where nothing is finite."""
    total = jax.nn.logsumexp(x, axis=-1, keepdims=True)
    return jnp.where(x > -jnp.inf, x - total, -jnp.inf)


def _nucleus(log_shares: jax.Array, top_p: jax.Array) -> jax.Array:
    """bool[batch, beams, children]: the likeliest children until their shares reach top_p; at least one."""
    order = jnp.argsort(-log_shares, axis=-1, stable=True)
    shares = jnp.exp(jnp.take_along_axis(log_shares, order, axis=-1))
    before = jnp.cumsum(shares, axis=-1) - shares
    inside = before < top_p[:, None, None]
    return jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1)


def _conditioned(free: jax.Array, largest: jax.Array) -> jax.Array:
    """Gumbel values [batch, beams, children] moved so that the largest child of each beam is its parent's value.

    In the numerically stable form of the paper's appendix B.3.
    """
    top = free.max(axis=-1, keepdims=True)
    some = top > -jnp.inf
    largest = largest[..., None]
    below = free - jnp.where(some, top, 0)  # at most 0
    v = largest - free + jnp.log1p(-jnp.exp(jnp.minimum(below, -1e-30)))
    moved = largest - jnp.maximum(v, 0) - jnp.log1p(jnp.exp(-jnp.abs(v)))
    moved = jnp.where(below >= 0, largest, moved)
    return jnp.where((free > -jnp.inf) & some, moved, -jnp.inf)
