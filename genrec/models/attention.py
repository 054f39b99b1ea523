"""Attention: the form for CPUs and GPUs, and two for TPUs. Shapes are those of `genrec.models.layers`."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genrec.models.products import Rounded, once, rounded, rounded_once
from genrec.sharding import constrain

MASKED = -1e9  # added to masked attention logits; finite, so that fully masked padding stays finite


class KeysValues(NamedTuple):
    """The keys and values of attention."""

    keys: jax.Array  # [..., tokens, heads, head_width]; of one token of a group on TPUs, [..., inner]
    values: jax.Array  # of the same shape


@jax.custom_vjp
def attend(queries: jax.Array, memory: KeysValues, bias: jax.Array) -> jax.Array:
    """Returns [..., queries, heads * head_width]: attention with the softmax in float32.

    Takes queries [..., queries, heads, head_width], keys and values [..., keys, heads, head_width], and a bias that
    broadcasts to [..., heads, queries, keys].
    """
    return _attend_forward(queries, memory, bias)[0]


_SavedHeads = tuple[jax.Array, KeysValues, jax.Array, jax.Array, jax.Array, jax.Array]


def _attend_forward(queries: jax.Array, memory: KeysValues, bias: jax.Array) -> tuple[jax.Array, _SavedHeads]:
    # CPUs bring each array into the layout of the products once, for the gradients as well: 6% of a step.
    queries, (keys, values) = _heads_first(queries), KeysValues(*map(_heads_first, memory))
    logits = jnp.einsum("...qd,...kd->...qk", queries, keys, preferred_element_type=jnp.float32) + bias
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    scale = 1 / weights.sum(axis=-1, keepdims=True)
    # Scaling after the product saves passes over the largest array: a fifth of the time on CPUs.
    mixed = jnp.einsum("...qk,...kd->...qd", weights.astype(values.dtype), values)
    mixed = (mixed * scale).astype(values.dtype)
    result = _heads_first(mixed)
    saved = (queries, KeysValues(keys, values), weights, scale, mixed, bias[..., :0])
    return result.reshape(*result.shape[:-2], -1), saved


def _attend_backward(saved: _SavedHeads, gradient: jax.Array) -> tuple[jax.Array, KeysValues, jax.Array]:
    queries, (keys, values), weights, scale, mixed, like = saved
    gradient = _heads_first(gradient.reshape(*gradient.shape[:-1], mixed.shape[-3], mixed.shape[-1]))
    change = (gradient * mixed).astype(jnp.float32).sum(axis=-1, keepdims=True)  # of all logits of a softmax
    scaled = (gradient * scale).astype(values.dtype)
    of_logits = jnp.einsum("...qd,...kd->...qk", scaled, values, preferred_element_type=jnp.float32)
    of_logits = weights * (of_logits - change * scale)
    of_bias = _as_broadcast(of_logits.sum(axis=tuple(range(of_logits.ndim - like.ndim))), like)
    of_logits = of_logits.astype(keys.dtype)
    of_queries = jnp.einsum("...qk,...kd->...qd", of_logits, keys)
    # XLA on CPUs transposes the first factor of a sum over queries: the narrower one comes first.
    of_keys = jnp.einsum("...qd,...qk->...dk", queries, of_logits)
    of_values = jnp.einsum("...qd,...qk->...dk", scaled, weights.astype(values.dtype))
    of_memory = KeysValues(*(jnp.moveaxis(x, -1, -3) for x in (of_keys, of_values)))
    return _heads_first(of_queries), of_memory, of_bias.astype(like.dtype)


attend.defvjp(_attend_forward, _attend_backward)


def _heads_first(x: jax.Array) -> jax.Array:
    """Returns [..., heads, tokens, head_width] for [..., tokens, heads, head_width], and the other way round."""
    return jnp.swapaxes(x, -3, -2)


def _as_broadcast(gradient: jax.Array, like: jax.Array) -> jax.Array:
    """Returns the gradient of a bias that was broadcast over the dimensions of size 1 of `like`, but for the keys."""
    for axis, size in enumerate(like.shape[:-1]):
        gradient = gradient.sum(axis=axis, keepdims=True) if size == 1 else gradient
    return gradient


class _Saved(NamedTuple):
    """Arrays that the gradients of `attend_rows` need."""

    queries: jax.Array  # [batch, tokens, heads, head_width], as keys and values
    keys: jax.Array
    values: jax.Array
    weights: jax.Array  # [batch, heads, keys, queries], not yet divided by their sum
    scale: jax.Array  # [batch, heads, 1, queries], that sum's inverse
    mixed: jax.Array  # [batch, tokens, heads * head_width]
    like: tuple[jax.Array, ...]  # empty arrays of the dtypes of queries, keys and values, and of the shape of the bias


class Rows(NamedTuple):
    """How `attend_rows` computes."""

    dtype: Any
    wide: bool = False  # whether queries, keys and values are still to be rounded
    groups: int = 1  # where several, tokens are those of `flat`, attend within theirs; the bias is [1, heads, new, new]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend_rows(queries: jax.Array, memory: KeysValues, bias: jax.Array, rows: Rows) -> Rounded:
    """Returns what `attend` does for [batch, tokens, heads, head_width] and a bias of four dimensions, `Rounded`.

    For TPUs: keys come before queries, and each exponential is computed once, and kept for the gradients in the dtype.
    """
    return _attend_rows_forward(queries, memory, bias, rows)[0]


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _attend_rows_forward(queries: jax.Array, memory: KeysValues, bias: jax.Array, rows: Rows) -> tuple[Rounded, _Saved]:
    dtype = rows.dtype
    like = (*(x[..., :0] for x in (queries, *memory)), bias[..., :0])
    given = (queries, *memory) if rows.wide else (x.astype(dtype) for x in (queries, *memory))
    asked, keys, values = (rounded(x, dtype) for x in given)
    logits = _product("bqhd,bkhd->bhkq", asked.read.astype(dtype), keys.read.astype(dtype))
    logits += _of_groups(bias, rows.groups).swapaxes(2, 3)
    weights = rounded_once(jnp.exp(logits - logits.max(axis=2, keepdims=True)), dtype)
    scale = 1 / _sums("bhkq,bhkx->bhxq", weights.kept, weights.kept.shape[:3])
    mixed = _product("bhkq,bkhd->bqhd", weights.read.astype(dtype), values.read.astype(dtype))
    mixed *= scale[:, :, 0].swapaxes(1, 2)[..., None]
    result = rounded(mixed.reshape(*mixed.shape[:2], -1), dtype)
    return result, _Saved(asked.kept, keys.kept, values.kept, weights.kept, scale, result.kept, like)


def _attend_rows_backward(rows: Rows, saved: _Saved, gradient: Rounded) -> tuple[jax.Array, KeysValues, jax.Array]:
    dtype = rows.dtype
    queries, keys, values, weights, scale, mixed, like = saved
    batch, _, heads, width = queries.shape
    mixed = mixed.reshape(batch, -1, heads, width)
    given = rounded(gradient.read.reshape(mixed.shape), dtype)
    change = _sums("bqhd,bhdx->bhxq", given.kept * mixed, (batch, heads, width))  # of all logits of a softmax
    # Scaling the weights, and not the gradient, leaves the latter in the layout in which these products read it.
    of_values = _product("bhkq,bqhd->bkhd", (weights * scale).astype(dtype), given.kept)
    of_weights = _product("bqhd,bkhd->bhkq", given.read.astype(dtype), values)
    of_logits = rounded_once(weights * scale * (of_weights - change), dtype)
    of_queries = _product("bhkq,bkhd->bqhd", of_logits.read.astype(dtype), keys)
    of_keys = _product("bhkq,bqhd->bkhd", of_logits.kept, queries)
    of_queries, of_keys, of_values = (
        x.astype(one.dtype) for x, one in zip((of_queries, of_keys, of_values), like[:3], strict=True)
    )
    return of_queries, KeysValues(of_keys, of_values), _of_bias(of_logits, like[3], rows.groups)


attend_rows.defvjp(_attend_rows_forward, _attend_rows_backward)


def _of_groups(bias: jax.Array, groups: int) -> jax.Array:
    """Returns the bias among all tokens of the groups, token after token."""
    if groups == 1:
        return bias
    _, heads, new, _ = bias.shape
    other = jnp.where(jnp.eye(groups, dtype=bool), 0.0, MASKED)[:, None]
    return (bias[:, :, :, None, :, None] + other).reshape(1, heads, new * groups, new * groups)


def _of_bias(of_logits: Rounded, like: jax.Array, groups: int) -> jax.Array:
    """Returns the gradient of a bias [batch or 1, heads or 1, queries or 1, keys] for that of [b, h, keys, queries]."""
    if groups > 1:
        new = like.shape[2]
        token = jnp.repeat(jnp.eye(new), groups, axis=0).astype(of_logits.kept.dtype)  # [keys, new]
        highest = jax.lax.Precision.HIGHEST
        # Tokens of other groups have a weight of 0, and no gradient.
        of_keys = _product("bhkq,kt->bhtq", of_logits.kept, token, precision=highest)
        return of_keys.reshape(*of_keys.shape[:3], new, groups).sum(axis=(0, 4)).swapaxes(1, 2)[None]
    return _as_broadcast(of_logits.read.astype(jnp.float32).swapaxes(2, 3), like)


def _sums(equation: str, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns float32[batch, heads, 1, queries]: sums of x as products with ones of a shape [batch, heads, summed].

    On TPUs a product takes a tenth of the cycles of a sum over the tokens or the width of a head. XLA turns one with a
    single column back into a sum; eight columns fill no more of a tile than one does.
    """
    ones = once(constrain(jnp.ones((*shape, 8), x.dtype), "batch", "heads"))
    return once(_product(equation, x, ones, precision=jax.lax.Precision.HIGHEST))[:, :, :1]


def attend_few(queries: Sequence[jax.Array], memory: Sequence[KeysValues], bias: jax.Array) -> list[jax.Array]:
    """Returns what `attend` does for the few tokens of each group, of which the queries are the last.

    Takes and returns [batch, groups, inner] of each token, and a bias [heads, new, tokens]. Products of 4 x 4 matrices,
    one for each group and head, would leave matrix units idle, and the memory of TPUs, whose tiles are 8 x 128, nearly
    empty. So each pair of tokens is multiplied over all groups and heads at once, and summed over the width of a head
    by a product with ones.
    """
    heads, new, tokens = bias.shape
    ones = jnp.repeat(jnp.eye(heads, dtype=jnp.float32), queries[0].shape[-1] // heads, axis=0)  # [inner, heads]
    high = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGH)
    keys = [one.keys.astype(jnp.float32) for one in memory]
    values = [one.values.astype(jnp.float32) for one in memory]
    mixed = []
    for place, query in enumerate(queries):
        seen, asked = tokens - new + place + 1, query.astype(jnp.float32)
        logits = jnp.stack([high(asked * key, ones) for key in keys[:seen]])  # [seen, batch, groups, heads]
        logits += bias[:, place, :seen].T[:, None, None]
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=0)))
        weights /= weights.sum(axis=0)
        parts = [high(weight, ones.T) * value for weight, value in zip(weights, values[:seen], strict=True)]
        mixed.append(functools.reduce(jnp.add, parts).astype(query.dtype))
    return mixed
