"""Choosing the best of many keys: exact, and quicker than sorting all of them."""

import jax
import jax.numpy as jnp

CHUNK = 32  # keys that are first represented by their largest
WORTH_CHUNKS = 4  # how many times more keys than survive it must be that chunks pay


def best(keys: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Places of the k largest keys of each row, in ascending order, and the largest key that is left.

    For example, of the keys (3, 9, -inf, 5, 7) the best 2 are the places 1 and 4, and 5 is left.

    Args:
      keys: float32[batch, n]; -inf is never chosen. Of equal keys the lower place is.
      k: How many to choose.

    Returns:
      int32[batch, k], with n in the last places where fewer than k are finite; and float32[batch], -inf if none is
      left.
    """
    batch, n = keys.shape
    wanted = min(k + 1, n)  # one more, to know what is left
    if n >= WORTH_CHUNKS * CHUNK * wanted:
        values, places = _by_chunks(keys, wanted)
    else:
        values, places = _top_k(keys, wanted)
    rest = values[:, k] if wanted > k else jnp.full(batch, -jnp.inf, keys.dtype)
    chosen = jnp.where(values[:, :k] > -jnp.inf, places[:, :k], n)
    chosen = jnp.sort(chosen, axis=1)
    return jnp.pad(chosen, ((0, 0), (0, k - chosen.shape[1])), constant_values=n), rest


def _top_k(keys: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k`, whose results may then be cut: without the barrier XLA moves the cut and sorts all keys."""
    values, places = jax.lax.top_k(keys, k)
    # One barrier each: a barrier around both is more than XLA can compile for several devices.
    return jax.lax.optimization_barrier(values), jax.lax.optimization_barrier(places)


def _by_chunks(keys: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` where k is much smaller than the number of keys.

    A chunk that holds one of the k best has one of the k largest maxima, as every chunk with a larger one has a better
    key too; and with ties, the lower chunk the lower places. So k chunks are enough.
    """
    batch, n = keys.shape
    keys = jnp.pad(keys, ((0, 0), (0, -n % CHUNK)), constant_values=-jnp.inf)
    chunks = keys.reshape(batch, -1, CHUNK)
    _, chosen = _top_k(chunks.max(axis=-1), k)
    chosen = jnp.sort(chosen, axis=1)
    near = jnp.take_along_axis(chunks, chosen[..., None], axis=1).reshape(batch, -1)
    values, places = _top_k(near, k)
    return values, jnp.take_along_axis(chosen, places // CHUNK, axis=1) * CHUNK + places % CHUNK


def at_most(keys: jax.Array, groups: jax.Array, most: jax.Array) -> jax.Array:
    """Keys with -inf for all but the `most` best of each group.

    For example, of the keys (5, 4, 3, 2) in the groups (0, 0, 0, 1) with at most 2 of each, the third becomes -inf.

    Args:
      keys: float32[batch, members, n] or [batch, members].
      groups: int32[batch, members], the group of all keys of a member.
      most: int32[batch], at least 1.
    """
    batch = len(keys)
    groups = jnp.broadcast_to(groups.reshape(*groups.shape, *(1,) * (keys.ndim - 2)), keys.shape)
    flat, groups = keys.reshape(batch, -1), groups.reshape(batch, -1)
    places = jnp.broadcast_to(jnp.arange(flat.shape[1]), flat.shape)
    # By group, then by key; the sort is stable, so of equal keys the lower place comes first.
    in_order, _, places = jax.lax.sort((groups, -flat, places), dimension=1, num_keys=2)
    new = jnp.concatenate([jnp.ones((batch, 1), bool), in_order[:, 1:] != in_order[:, :-1]], axis=1)
    number = jnp.broadcast_to(jnp.arange(flat.shape[1]), flat.shape)
    within = number - jax.lax.cummax(jnp.where(new, number, 0), axis=1)  # place in its group
    rank = jnp.zeros_like(places).at[jnp.arange(batch)[:, None], places].set(within)
    return jnp.where(rank < most[:, None], flat, -jnp.inf).reshape(keys.shape)
