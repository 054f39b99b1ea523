"""Transformer layers of T5 (Raffel et al. 2020): RMSNorm, relative position bias, no other biases.

Shapes: `batch` rows; `tokens` encoder tokens of a row; `groups` independent decoder sequences of a row (targets in
training, beams in decoding), each of `new` tokens; `inner` the width of all heads. The decoder's tokens are
[batch, groups * new, ...] in the order of `flat`. Layers keep no state: dropout keys and caches are arguments and
results.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec import config, sharding
from genrec.models.attention import KeysValues, Rows, attend, attend_few, attend_rows
from genrec.models.products import Linear, Rounded, Wide, once, rounded_once
from genrec.sharding import constrain

Layer = TypeVar("Layer", bound=nnx.Module)

ROW = 256  # tokens of a row up to which TPUs compute attention within groups as that of the row
FEW = 8  # tokens of a group up to which TPUs attend token by token; texts have more
LAYER_KEYS = 1 << 16  # offset that separates the dropout keys of layers from those of calls
UNROLLED = 4  # stacked layers up to which TPUs run one after another in place of a scan


class Dropout:
    """Dropout with probability `rate`, none without a key; the n-th call uses the n-th key derived from `key`.

    The random numbers are a hash of the element's index (the finalizer of MurmurHash3, seeded from the key): XLA fuses
    it into the surrounding loops, where a counter-based generator would write its numbers to memory (a third of a step
    on CPUs).
    """

    def __init__(self, rate: float, key: jax.Array | None, new: int = 1):
        """`new`: tokens of a group, for arrays in the order of `flat`."""
        self.rate, self.key, self.new, self.calls = rate, key if rate > 0 else None, new, 0

    def of_layer(self, number: int | jax.Array, new: int = 1) -> "Dropout":
        """Returns the dropout of one layer, which depends on the layer's number alone, scanned or not."""
        return self if self.key is None else Dropout(self.rate, jax.random.fold_in(self.key, LAYER_KEYS + number), new)

    def __call__(self, x: jax.Array, new: int | None = None) -> jax.Array:
        if self.key is None:
            return x
        return jnp.where(self._keep(x, self.new if new is None else new), x / (1 - self.rate), 0).astype(x.dtype)

    def of_relu(self, x: jax.Array, dtype: Any) -> Rounded:
        """Returns the dropout of the ReLU of x. Its gradient needs the result alone, neither x nor random numbers."""
        rate, keep = (0.0, None) if self.key is None else (self.rate, self._keep(x, self.new))
        return _kept_relu(rate, dtype, x, keep)

    def _keep(self, x: jax.Array, new: int) -> jax.Array:
        assert self.key is not None
        self.calls += 1
        add, flip = jax.random.bits(jax.random.fold_in(self.key, self.calls), (2,), jnp.uint32)
        width, spread = x.shape[-1], 0x9E3779B1
        # Of the index, row * width + column: in this form most is computed once for a row or a column.
        row = _row_numbers(x.shape[:-1], new)[..., None] * jnp.uint32(width * spread % 2**32)
        bits = row + (jax.lax.iota(jnp.uint32, width) * jnp.uint32(spread) + add)
        bits = (bits ^ (bits >> 16) ^ flip) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
        return (bits ^ (bits >> 16)) >= jnp.uint32(round(self.rate * 2**32))


def _row_numbers(shape: tuple[int, ...], new: int) -> jax.Array:
    """Returns uint32[shape]: the number of each row, group after group also where `flat` has another order."""
    if new == 1 or not sharding.on_tpu():
        return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    batch, tokens = shape
    places = np.arange(tokens, dtype=np.uint32).reshape(-1, new).T.reshape(-1)
    return jax.lax.iota(jnp.uint32, batch)[:, None] * jnp.uint32(tokens) + places


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kept_relu(rate: float, dtype: Any, x: jax.Array, keep: jax.Array | None) -> Rounded:
    kept = jax.nn.relu(x) if keep is None else jnp.where(keep, jax.nn.relu(x) / (1 - rate), 0)
    return rounded_once(kept.astype(x.dtype), dtype)


def _kept_relu_forward(rate: float, dtype: Any, x: jax.Array, keep: jax.Array | None) -> tuple[Rounded, tuple]:
    result = _kept_relu(rate, dtype, x, keep)
    return result, (result.kept, x[..., :0])


def _kept_relu_backward(rate: float, dtype: Any, saved: tuple, gradient: Rounded) -> tuple[jax.Array, None]:
    kept, like = saved
    return jnp.where(kept > 0, gradient.read / (1 - rate), 0).astype(like.dtype), None


_kept_relu.defvjp(_kept_relu_forward, _kept_relu_backward)


def flat(x: jax.Array) -> jax.Array:
    """Returns [batch, groups * new, ...] for [batch, groups, new, ...]: group after group, on TPUs token after token.

    TPU memory has tiles of 8 x 128: the few tokens of a group would fill half of one.
    """
    x = x.swapaxes(1, 2) if sharding.on_tpu() else x
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def flat_bias(bias: jax.Array, new: int) -> jax.Array:
    """Returns [batch, heads or 1, groups * new or 1, keys] for [batch, heads or 1, groups or 1, keys]."""
    if new == 1 or bias.shape[2] == 1:
        return bias
    return _tiled(new, bias) if sharding.on_tpu() else jnp.repeat(bias, new, axis=2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tiled(new: int, bias: jax.Array) -> jax.Array:
    return jnp.tile(bias, (1, 1, new, 1))


def _tiled_backward(new: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    # A product: TPUs take ten times as long to sum over tokens that are far apart within a tile.
    of_groups = jnp.tile(jnp.eye(gradient.shape[2] // new), (new, 1))
    return (jnp.einsum("bhqk,qg->bhgk", gradient, of_groups, precision=jax.lax.Precision.HIGH),)


_tiled.defvjp(lambda new, bias: (_tiled(new, bias), None), _tiled_backward)


def grouped(x: jax.Array, new: int) -> jax.Array:
    """Returns [batch, groups, new, ...] for what `flat` returned."""
    if sharding.on_tpu():
        return x.reshape(x.shape[0], new, -1, *x.shape[2:]).swapaxes(1, 2)
    return x.reshape(x.shape[0], -1, new, *x.shape[2:])


def tokens_of(x: jax.Array, new: int) -> list[jax.Array]:
    """Returns each token of the groups, [batch, groups, ...], of what `flat` returned."""
    if sharding.on_tpu():
        return jnp.split(x, new, axis=1)
    groups = grouped(x, new)
    return [groups[:, :, place] for place in range(new)]


class RMSNorm(nnx.Module):
    """Root mean square normalization over the width, in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-6)
        return (wide * inverse * self.scale[...]).astype(x.dtype)


class MLP(nnx.Module):
    """Feed-forward layer with ReLU, or with GELU times a linear gate as in T5 v1.1."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        self.norm = RMSNorm(cfg.width)
        width, mlp = ("embed", cfg.width), ("mlp", cfg.mlp)
        self.into = Linear(cfg, width, mlp, rngs, wide=Wide.NOTHING if cfg.gated_mlp else Wide.BOTH)
        self.gate = Linear(cfg, width, mlp, rngs) if cfg.gated_mlp else None
        self.out = Linear(cfg, mlp, width, rngs)

    def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
        normed = self.norm(x)
        hidden = self.into(normed)
        if self.gate is None:
            return x + dropout(self.out(dropout.of_relu(hidden, self.out.dtype)))
        return x + dropout(self.out(once(dropout(jax.nn.gelu(hidden) * self.gate(normed)))))


class SoftTokens(nnx.Module):
    """Adapter that projects a normalized vector, through one hidden layer, to `tokens` soft tokens."""

    def __init__(self, cfg: config.Model, width: int, tokens: int, rngs: nnx.Rngs):
        self.tokens = tokens
        self.norm = RMSNorm(width)
        self.into = Linear(cfg, (None, width), ("mlp", cfg.mlp), rngs)
        self.out = Linear(cfg, ("mlp", cfg.mlp), ("embed", tokens * cfg.width), rngs)

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Returns [..., tokens, width of the model] for float32[..., width]."""
        projected = self.out(jax.nn.relu(self.into(self.norm(vectors).astype(self.into.dtype))))
        return projected.reshape(*vectors.shape[:-1], self.tokens, -1)


class PositionBias(nnx.Module):
    """Learned bias per head and bucket of relative positions; far distances share buckets (T5)."""

    def __init__(self, cfg: config.Model, bidirectional: bool, rngs: nnx.Rngs):
        exact = cfg.position_buckets // (4 if bidirectional else 2)
        if not 1 <= exact < cfg.position_max_distance:
            raise config.ConfigError(
                f"model.position_buckets={cfg.position_buckets} must be at least 4, and model.position_max_distance="
                f"{cfg.position_max_distance} more than half of that"
            )
        self.bidirectional = bidirectional
        self.max_distance = cfg.position_max_distance
        init = nnx.initializers.normal(0.02)
        self.table = nnx.Param(init(rngs.params(), (cfg.position_buckets, cfg.heads)))

    def __call__(self, distance: jax.Array) -> jax.Array:
        """Returns float32[heads, ...] for int32[...], key position minus query position."""
        buckets = self.table.shape[0]
        bucket = jnp.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            bucket = jnp.where(distance > 0, buckets, 0)
            distance = jnp.abs(distance)
        else:
            distance = jnp.maximum(-distance, 0)
        exact = buckets // 2
        far = exact + (
            jnp.log(jnp.maximum(distance, 1) / exact) / math.log(self.max_distance / exact) * (buckets - exact)
        ).astype(jnp.int32)
        bucket += jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))
        return jnp.moveaxis(self.table[...][bucket], -1, 0)


class Attention(nnx.Module):
    """Base of self-attention and cross-attention: the preceding norm and the projections."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs, wide: Wide = Wide.GRADIENT):
        width, heads = ("embed", cfg.width), ("heads", cfg.heads * cfg.head_width)
        self.head_shape = (cfg.heads, cfg.head_width)
        self.norm = RMSNorm(cfg.width)
        # T5 does not scale the logits; its query matrix starts smaller instead.
        self.query = Linear(cfg, width, heads, rngs, scale=1 / math.sqrt(cfg.head_width), wide=wide)
        self.key = Linear(cfg, width, heads, rngs, wide=wide)
        self.value = Linear(cfg, width, heads, rngs, wide=wide)
        self.out = Linear(cfg, heads, width, rngs)

    def attend(self, queries: jax.Array, memory: KeysValues, bias: jax.Array, groups: int = 1) -> jax.Array | Rounded:
        """Returns [batch, tokens, heads * head_width] for queries [batch, tokens, heads, head_width]."""
        if not sharding.on_tpu():
            return attend(queries, memory, bias)
        return attend_rows(queries, memory, bias, Rows(self.out.dtype, self.query.wide is Wide.BOTH, groups))

    def queries(self, x: jax.Array) -> jax.Array:
        """Returns [..., tokens, heads, head_width] for normed x [..., tokens, width]."""
        return self.query(x).reshape(*x.shape[:-1], *self.head_shape)

    def project_kv(self, x: jax.Array) -> KeysValues:
        """Returns the keys and values of x [..., tokens, width]."""
        heads = (*x.shape[:-1], *self.head_shape)
        return KeysValues(self.key(x).reshape(heads), self.value(x).reshape(heads))


class SelfAttention(Attention):
    """Self-attention of the encoder with a residual connection."""

    def __call__(self, x: jax.Array, bias: jax.Array, dropout: Dropout) -> jax.Array:
        """Returns x [batch, tokens, width]; `bias` broadcasts to [batch, heads, tokens, tokens]."""
        normed = self.norm(x)
        return x + dropout(self.out(self.attend(self.queries(normed), self.project_kv(normed), bias)))


class GroupAttention(Attention):
    """Self-attention of the decoder, within each group, with a residual connection."""

    def __call__(
        self, x: jax.Array, bias: jax.Array, dropout: Dropout, past: tuple[KeysValues, ...] = ()
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """Returns x [batch, groups * new, width] and all keys and values; `bias` is [heads, new, past + new]."""
        normed = self.norm(x)
        queries, *both = (project(normed) for project in (self.query, self.key, self.value))
        own = KeysValues(*(one.astype(self.out.dtype) for one in both))
        few = sharding.on_tpu() and bias.shape[2] <= FEW
        if few and not past and 1 < queries.shape[1] <= ROW:
            asked, *both = (one.reshape(*one.shape[:2], *self.head_shape) for one in (queries, *both))
            new = bias.shape[1]
            mixed = self.attend(asked, KeysValues(*both), bias[None], groups=queries.shape[1] // new)
            present = _each_token(own, new)
        else:
            mix = self._token_by_token if few else self._all_at_once
            mixed, present = mix(queries.astype(self.out.dtype), own, bias, past)
        return x + dropout(self.out(mixed)), present

    def _token_by_token(
        self, queries: jax.Array, own: KeysValues, bias: jax.Array, past: tuple[KeysValues, ...]
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        new = bias.shape[1]
        present = (*past, *_each_token(own, new))
        return jnp.concatenate(attend_few(tokens_of(queries, new), present, bias), axis=1), present

    def _all_at_once(
        self, queries: jax.Array, own: KeysValues, bias: jax.Array, past: tuple[KeysValues, ...]
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        new = bias.shape[1]
        asked, *both = (grouped(one, new).reshape(one.shape[0], -1, new, *self.head_shape) for one in (queries, *own))
        memory = KeysValues(*both)
        if past:
            memory = jax.tree.map(lambda before, now: jnp.concatenate([before, now], axis=-3), past[0], memory)
        return flat(attend(asked, memory, bias)), (memory,)


def _each_token(own: KeysValues, new: int) -> tuple[KeysValues, ...]:
    return tuple(map(KeysValues, tokens_of(own.keys, new), tokens_of(own.values, new)))


class CrossAttention(Attention):
    """Cross-attention with a residual connection."""

    def __call__(self, x: jax.Array, memory: KeysValues, bias: jax.Array, dropout: Dropout) -> jax.Array:
        """Returns x [batch, groups * new, width]; `bias` is [batch, heads or 1, groups * new or 1, tokens]."""
        return x + dropout(self.out(self.attend(self.queries(self.norm(x)), memory, bias)))


class EncoderLayer(nnx.Module):
    """Self-attention and a feed-forward layer."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        self.attention = SelfAttention(cfg, rngs)
        self.mlp = MLP(cfg, rngs)

    def __call__(self, x: jax.Array, bias: jax.Array, dropout: Dropout) -> jax.Array:
        return constrain(self.mlp(self.attention(x, bias, dropout), dropout), "batch")


class DecoderLayer(nnx.Module):
    """Self-attention, cross-attention and a feed-forward layer."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        self.attention = GroupAttention(cfg, rngs, wide=Wide.BOTH)
        self.cross = CrossAttention(cfg, rngs)
        self.mlp = MLP(cfg, rngs)

    def __call__(
        self,
        x: jax.Array,
        bias: jax.Array,
        memory: KeysValues,
        cross_bias: jax.Array,
        dropout: Dropout,
        past: tuple[KeysValues, ...] = (),
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """Returns x [batch, groups * new, width] and all keys and values; `past` are those of earlier tokens."""
        x, present = self.attention(x, bias, dropout, past)
        x = self.cross(x, memory, cross_bias, dropout)
        return constrain(self.mlp(x, dropout), "batch"), present


class Layers(nnx.Module, Generic[Layer]):
    """A stack of layers of one kind.

    With `cfg.scan_layers` their parameters are stacked, [layers, ...], and `jax.lax.scan` runs the one compiled layer;
    with `cfg.remat` activations within a layer are recomputed for the gradients, on TPUs in every scan. There, up to
    UNROLLED stacked layers run one after another instead. None of this changes a result.
    """

    def __init__(self, make: Callable[[], Layer], count: int, cfg: config.Model):
        self.count, self.remat = count, cfg.remat
        layers = [make() for _ in range(count)]
        self.unstacked = None if cfg.scan_layers else nnx.List(layers)
        self.stacked = _stack(layers) if cfg.scan_layers else None

    def each(self) -> list[Layer]:
        """Returns the layers one by one, sliced from the stacked parameters if need be."""
        if self.unstacked is not None:
            return list(self.unstacked)
        assert self.stacked is not None  # the other form
        graphdef, params = nnx.split(self.stacked)
        return [nnx.merge(graphdef, jax.tree.map(lambda x: x[number], params)) for number in range(self.count)]  # noqa: B023

    def run(self, function: Callable[[Layer, int | jax.Array, jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """Returns x after x = function(layer, number, x) for every layer in turn; the shape of x stays the same."""
        graphdef = nnx.graphdef(self.stacked if self.unstacked is None else self.unstacked[0])

        def body(x: jax.Array, layer: tuple[nnx.State, int | jax.Array]) -> tuple[jax.Array, None]:
            params, number = layer
            return function(nnx.merge(graphdef, params), number, x), None

        # TPUs take more time to stack what a scan saves for the gradients, layer after layer, than to compute it again.
        few = self.count <= UNROLLED
        if self.remat or (self.unstacked is None and sharding.on_tpu() and not few):
            body = jax.checkpoint(body)
        if self.unstacked is None:
            layers = (nnx.state(self.stacked), jnp.arange(self.count))
            return jax.lax.scan(body, x, layers, unroll=sharding.on_tpu() and few)[0]
        for number, layer in enumerate(self.unstacked):
            x, _ = body(x, (nnx.state(layer), number))
        return x


def _stack(layers: list[Layer]) -> Layer:
    """Returns one layer whose parameters have a first dimension "layers"."""

    def stack(*variables: nnx.Param) -> nnx.Param:
        axes = variables[0].get_metadata().get("axes")
        stacked = jnp.stack([variable[...] for variable in variables])
        return nnx.Param(stacked) if axes is None else nnx.Param(stacked, axes=("layers", *axes))

    states = [nnx.state(layer) for layer in layers]
    stacked = jax.tree.map(stack, *states, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return nnx.merge(nnx.graphdef(layers[0]), stacked)
