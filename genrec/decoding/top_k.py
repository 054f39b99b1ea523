"""Exact top-k of the scores of each row, in chunks where that is faster than sorting all scores."""

import jax
import jax.numpy as jnp

CHUNK = 32  # scores per chunk; a first pass compares the maxima of chunks
MIN_REDUCTION = 4  # chunks are used if the second pass then has fewer scores by at least this factor


def top_k(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the places of the k largest scores of each row, in ascending order, and the next largest score.

    For example, the top 2 of the scores (3, 9, -inf, 5, 7) are at the places 1 and 4, and the next is 5.

    Of scores float32[batch, n], -inf is never chosen, and of equal scores the one at the lower place is. The places are
    int32[batch, k], padded with n if fewer than k scores are finite; the next score is float32[batch], -inf if none.
    """
    batch, n = scores.shape
    wanted = min(k + 1, n)  # one more, the next largest
    if n >= MIN_REDUCTION * CHUNK * wanted:
        values, places = _by_chunks(scores, wanted)
    else:
        values, places = _top_k(scores, wanted)
    rest = values[:, k] if wanted > k else jnp.full(batch, -jnp.inf, scores.dtype)
    chosen = jnp.where(values[:, :k] > -jnp.inf, places[:, :k], n)
    chosen = jnp.sort(chosen, axis=1)
    return jnp.pad(chosen, ((0, 0), (0, k - chosen.shape[1])), constant_values=n), rest


def _top_k(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Runs `jax.lax.top_k` behind a barrier: otherwise XLA moves a slice of the results before it and sorts all."""
    values, places = jax.lax.top_k(scores, k)
    # One barrier each: XLA cannot compile a barrier around both for several devices.
    return jax.lax.optimization_barrier(values), jax.lax.optimization_barrier(places)


def _by_chunks(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the result of `jax.lax.top_k` for a k that is much smaller than the number of scores.

    The k largest scores lie in the k chunks of largest maxima, because each chunk with a larger maximum has a larger
    score too; of equal maxima, the lower chunk has the lower places.
    """
    batch, n = scores.shape
    scores = jnp.pad(scores, ((0, 0), (0, -n % CHUNK)), constant_values=-jnp.inf)
    chunks = scores.reshape(batch, -1, CHUNK)
    _, chosen = _top_k(chunks.max(axis=-1), k)
    chosen = jnp.sort(chosen, axis=1)
    near = jnp.take_along_axis(chunks, chosen[..., None], axis=1).reshape(batch, -1)
    values, places = _top_k(near, k)
    return values, jnp.take_along_axis(chosen, places // CHUNK, axis=1) * CHUNK + places % CHUNK


def limit_per_group(scores: jax.Array, groups: jax.Array, limit: jax.Array) -> jax.Array:
    """Returns the scores with -inf for all but the `limit` largest of each group.

    For example, of the scores (5, 4, 3, 2) in the groups (0, 0, 0, 1) with a limit of 2, the third becomes -inf.

    `scores` are float32[batch, members, n] or [batch, members], `groups` int32[batch, members] those of all scores of a
    member, `limit` int32[batch], at least 1.
    """
    batch = len(scores)
    groups = jnp.broadcast_to(groups.reshape(*groups.shape, *(1,) * (scores.ndim - 2)), scores.shape)
    flat, groups = scores.reshape(batch, -1), groups.reshape(batch, -1)
    places = jnp.broadcast_to(jnp.arange(flat.shape[1]), flat.shape)
    # Sorted by group, then by score; the sort is stable, so of equal scores the lower place comes first.
    in_order, _, places = jax.lax.sort((groups, -flat, places), dimension=1, num_keys=2)
    new = jnp.concatenate([jnp.ones((batch, 1), bool), in_order[:, 1:] != in_order[:, :-1]], axis=1)
    number = jnp.broadcast_to(jnp.arange(flat.shape[1]), flat.shape)
    within = number - jax.lax.cummax(jnp.where(new, number, 0), axis=1)  # place in its group
    rank = jnp.zeros_like(places).at[jnp.arange(batch)[:, None], places].set(within)
    return jnp.where(rank < limit[:, None], flat, -jnp.inf).reshape(scores.shape)
