"""Transformer layers of T5 (Raffel et al. 2020): RMSNorm, relative position bias, no other biases.

Shapes: `batch` rows; `tokens` encoder tokens of a row; `groups` independent decoder sequences of a row (targets in
training, beams in decoding), each of `new` tokens. Layers keep no state: dropout keys and caches are arguments and
results.
"""

import functools
import math
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from genrec import config
from genrec.sharding import constrain, on_tpu

Layer = TypeVar("Layer", bound=nnx.Module)

LAYER_KEYS = 1 << 16  # offset that separates the dropout keys of layers from those of calls
MASKED = -1e9  # added to masked attention logits; finite, so that fully masked padding stays finite


class Dropout:
    """Dropout with probability `rate`, none without a key; the n-th call uses the n-th key derived from `key`.

    The random numbers are a hash of the element's index (the finalizer of MurmurHash3, seeded from the key): XLA fuses
    it into the surrounding loops, where a counter-based generator would write its numbers to memory (a third of a step
    on CPUs).
    """

    def __init__(self, rate: float, key: jax.Array | None):
        self.rate, self.key, self.calls = rate, key if rate > 0 else None, 0

    def of_layer(self, number: int | jax.Array) -> "Dropout":
        """Returns the dropout of one layer, which depends on the layer's number alone, scanned or not."""
        return self if self.key is None else Dropout(self.rate, jax.random.fold_in(self.key, LAYER_KEYS + number))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.key is None:
            return x
        self.calls += 1
        add, flip = jax.random.bits(jax.random.fold_in(self.key, self.calls), (2,), jnp.uint32)
        width = x.shape[-1]
        row = jax.lax.iota(jnp.uint32, x.size // width).reshape(*x.shape[:-1], 1)
        bits = (row * jnp.uint32(width) + jax.lax.iota(jnp.uint32, width)) * jnp.uint32(0x9E3779B1) + add
        bits = (bits ^ (bits >> 16) ^ flip) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
        keep = (bits ^ (bits >> 16)) >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)


class KeysValues(NamedTuple):
    """The keys and values of attention."""

    keys: jax.Array  # [..., tokens, heads, head_width]
    values: jax.Array  # [..., tokens, heads, head_width]


def linear(
    cfg: config.Model,
    inputs: tuple[str | None, int],
    outputs: tuple[str, int],
    rngs: nnx.Rngs,
    scale: float = 1.0,
    use_bias: bool = False,
) -> nnx.Linear:
    """Returns a linear layer, initialized to multiply the standard deviation by `scale`.

    `inputs` and `outputs` are the logical axes (genrec.sharding.RULES) and sizes of its kernel.
    """
    return nnx.Linear(
        inputs[1],
        outputs[1],
        use_bias=use_bias,
        dtype=jnp.dtype(cfg.compute),
        kernel_init=nnx.initializers.normal(scale / math.sqrt(inputs[1])),
        kernel_metadata={"axes": (inputs[0], outputs[0])},
        bias_metadata={"axes": (outputs[0],)},
        dot_general=functools.partial(_product, axes=(inputs[0], outputs[0])),
        rngs=rngs,
    )


def _product(
    x: jax.Array, kernel: jax.Array, dimension_numbers: tuple, axes: tuple[str | None, str], **options: object
) -> jax.Array:
    """Returns x [..., inputs] times kernel [inputs, outputs], of these logical axes, as `nnx.Linear` calls it."""
    return _matmul(axes, x, kernel)


def _gathered(axes: tuple[str | None, str], kernel: jax.Array) -> jax.Array:
    """Returns a kernel with its shards along the model's width gathered.

    By itself XLA multiplies by one shard after another while it passes them on, in products too narrow for the matrix
    units of TPUs: with 16 shards of width 1,024 a step takes 1.8 times as many cycles.
    """
    return constrain(kernel, *(None if name == "embed" else name for name in axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _matmul(axes: tuple[str | None, str], x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(x, _gathered(axes, kernel))


def _matmul_forward(
    axes: tuple[str | None, str], x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _matmul(axes, x, kernel), (x, kernel)


def _matmul_backward(
    axes: tuple[str | None, str], saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    tokens = tuple(range(x.ndim - 1))
    # On CPUs, XLA transposes the first factor of a sum over tokens, with all that was fused into it: the narrower one
    # comes first. This saves a quarter of a step where the MLP is eight times as wide as the model.
    if x.shape[-1] <= gradient.shape[-1]:
        kernel_gradient = jnp.tensordot(x, gradient, (tokens, tokens))
    else:
        kernel_gradient = jnp.tensordot(gradient, x, (tokens, tokens)).T
    return jnp.matmul(gradient, _gathered(axes, kernel).T), constrain(kernel_gradient, *axes)


_matmul.defvjp(_matmul_forward, _matmul_backward)


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
        self.into = linear(cfg, width, mlp, rngs)
        self.gate = linear(cfg, width, mlp, rngs) if cfg.gated_mlp else None
        self.out = linear(cfg, mlp, width, rngs)

    def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
        normed = self.norm(x)
        hidden = self.into(normed)
        hidden = jax.nn.relu(hidden) if self.gate is None else jax.nn.gelu(hidden) * self.gate(normed)
        return x + dropout(self.out(dropout(hidden)))


class SoftTokens(nnx.Module):
    """Adapter that projects a normalized vector, through one hidden layer, to `tokens` soft tokens."""

    def __init__(self, cfg: config.Model, width: int, tokens: int, rngs: nnx.Rngs):
        self.tokens = tokens
        self.norm = RMSNorm(width)
        self.into = linear(cfg, (None, width), ("mlp", cfg.mlp), rngs)
        self.out = linear(cfg, ("mlp", cfg.mlp), ("embed", tokens * cfg.width), rngs)

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


def attend(queries: jax.Array, memory: KeysValues, bias: jax.Array) -> jax.Array:
    """Returns [..., queries, heads * head_width]: attention with the softmax in float32.

    Takes queries [..., queries, heads, head_width], keys and values [..., keys, heads, head_width], and a bias that
    broadcasts to [..., heads, queries, keys].
    """
    logits = jnp.einsum("...qhd,...khd->...hqk", queries, memory.keys, preferred_element_type=jnp.float32) + bias
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = jnp.moveaxis(weights.sum(axis=-1), -1, -2)[..., None]  # [..., queries, heads, 1]
    mixed = jnp.einsum("...hqk,...khd->...qhd", weights.astype(memory.values.dtype), memory.values)
    # Dividing after the product saves passes over the largest array: a fifth of the time on CPUs.
    mixed = (mixed / total).astype(memory.values.dtype)
    return mixed.reshape(*mixed.shape[:-2], -1)


def attend_across(queries: jax.Array, memory: KeysValues, bias: jax.Array) -> jax.Array:
    """Returns what `attend` does for tokens that share their bias with the others of their group.

    Takes queries [batch, new, groups, heads, head_width], token after token, keys and values [batch, keys, heads,
    head_width], and a bias [batch, heads or 1, groups or 1, keys]. Returns [batch, new, groups, heads * head_width].
    Repeating the bias for each token would mix the few tokens of a group with the groups in the tiles of TPU memory.
    """
    logits = (
        jnp.einsum("bnghd,bkhd->bhngk", queries, memory.keys, preferred_element_type=jnp.float32) + bias[:, :, None]
    )
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = jnp.moveaxis(weights.sum(axis=-1), 1, -1)[..., None]  # [batch, new, groups, heads, 1]
    mixed = jnp.einsum("bhngk,bkhd->bnghd", weights.astype(memory.values.dtype), memory.values)
    mixed = (mixed / total).astype(memory.values.dtype)
    return mixed.reshape(*mixed.shape[:-2], -1)


def attend_few(queries: jax.Array, memory: KeysValues, bias: jax.Array) -> jax.Array:
    """Returns what `attend` does for the few tokens of each group, of which the queries are the last.

    Takes queries [batch, groups, new, heads, head_width], keys and values [batch, groups, tokens, heads, head_width],
    and a bias [heads, new, tokens]. Products of 4 x 4 matrices, one for each group and head, would leave matrix units
    idle, and the memory of TPUs, whose tiles are 8 x 128, nearly empty. So each pair of tokens is multiplied over all
    groups and heads at once, and summed over the width of a head by a product with ones.
    """
    new, tokens, (heads, width) = queries.shape[2], memory.keys.shape[2], queries.shape[3:]
    ones = jnp.repeat(jnp.eye(heads, dtype=jnp.float32), width, axis=0)  # [heads * head_width, heads]
    flat = [x.astype(jnp.float32).reshape(*x.shape[:3], heads * width) for x in (queries, *memory)]
    asked, keys, values = (jnp.moveaxis(x, 2, 0) for x in flat)  # [tokens, batch, groups, heads * head_width]
    mixed = []
    for place in range(new):
        seen = tokens - new + place + 1
        logits = jnp.matmul(asked[place] * keys[:seen], ones, precision=jax.lax.Precision.HIGH)
        logits += bias[:, place, :seen].T[:, None, None]  # [seen, batch, groups, heads]
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=0)))
        weights /= weights.sum(axis=0)
        spread = jnp.matmul(weights, ones.T, precision=jax.lax.Precision.HIGH)
        mixed.append((spread * values[:seen]).sum(axis=0).astype(memory.values.dtype))
    return jnp.stack(mixed, axis=2)


class Attention(nnx.Module):
    """Base of self-attention and cross-attention: the preceding norm and the projections."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        width, heads = ("embed", cfg.width), ("heads", cfg.heads * cfg.head_width)
        self.head_shape = (cfg.heads, cfg.head_width)
        self.norm = RMSNorm(cfg.width)
        # T5 does not scale the logits; its query matrix starts smaller instead.
        self.query = linear(cfg, width, heads, rngs, scale=1 / math.sqrt(cfg.head_width))
        self.key = linear(cfg, width, heads, rngs)
        self.value = linear(cfg, width, heads, rngs)
        self.out = linear(cfg, heads, width, rngs)

    def queries(self, x: jax.Array) -> jax.Array:
        """Returns [..., tokens, heads, head_width] for normed x [..., tokens, width]."""
        return self.query(x).reshape(*x.shape[:-1], *self.head_shape)

    def project_kv(self, x: jax.Array) -> KeysValues:
        """Returns the keys and values of x [..., tokens, width]."""
        heads = (*x.shape[:-1], *self.head_shape)
        return KeysValues(self.key(x).reshape(heads), self.value(x).reshape(heads))


class SelfAttention(Attention):
    """Self-attention with a residual connection."""

    def __call__(
        self, x: jax.Array, bias: jax.Array, dropout: Dropout, past: KeysValues | None = None
    ) -> tuple[jax.Array, KeysValues]:
        """Returns x [..., new, width] and all keys and values; `bias` broadcasts to [..., heads, new, past + new]."""
        normed = self.norm(x)
        memory = self.project_kv(normed)
        if past is not None:
            memory = jax.tree.map(lambda before, now: jnp.concatenate([before, now], axis=-3), past, memory)
        # By the TPU compiler; on CPUs the few tokens of a group are fastest as products of small matrices.
        attention = attend_few if x.ndim == 4 and on_tpu() else attend
        return x + dropout(self.out(attention(self.queries(normed), memory, bias))), memory


class CrossAttention(Attention):
    """Cross-attention with a residual connection."""

    def __call__(self, x: jax.Array, memory: KeysValues, bias: jax.Array, dropout: Dropout) -> jax.Array:
        """Returns x [batch, groups, new, width]; `bias` is [batch, heads or 1, groups or 1, tokens]."""
        batch, groups, new, width = x.shape
        if on_tpu():
            queries = self.queries(self.norm(x).swapaxes(1, 2))  # [batch, new, groups, heads, head_width]
            return x + dropout(self.out(attend_across(queries, memory, bias).swapaxes(1, 2)))
        queries = self.queries(self.norm(x).reshape(batch, groups * new, width))
        if bias.shape[2] != 1:
            bias = jnp.repeat(bias, new, axis=2)
        return x + dropout(self.out(attend(queries, memory, bias)).reshape(x.shape))


class EncoderLayer(nnx.Module):
    """Self-attention and a feed-forward layer."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        self.attention = SelfAttention(cfg, rngs)
        self.mlp = MLP(cfg, rngs)

    def __call__(self, x: jax.Array, bias: jax.Array, dropout: Dropout) -> jax.Array:
        return constrain(self.mlp(self.attention(x, bias, dropout)[0], dropout), "batch")


class DecoderLayer(nnx.Module):
    """Self-attention, cross-attention and a feed-forward layer."""

    def __init__(self, cfg: config.Model, rngs: nnx.Rngs):
        self.attention = SelfAttention(cfg, rngs)
        self.cross = CrossAttention(cfg, rngs)
        self.mlp = MLP(cfg, rngs)

    def __call__(
        self,
        x: jax.Array,
        bias: jax.Array,
        memory: KeysValues,
        cross_bias: jax.Array,
        dropout: Dropout,
        past: KeysValues | None = None,
    ) -> tuple[jax.Array, KeysValues]:
        """Returns x [batch, groups, new, width] and all keys and values; `past` are those of earlier tokens."""
        x, present = self.attention(x, bias, dropout, past)
        x = self.cross(x, memory, cross_bias, dropout)
        return constrain(self.mlp(x, dropout), "batch"), present


class Layers(nnx.Module, Generic[Layer]):
    """A stack of layers of one kind.

    With `cfg.scan_layers` their parameters are stacked, [layers, ...], and `jax.lax.scan` runs the one compiled layer;
    with `cfg.remat` activations within a layer are recomputed for the gradients. Neither changes a result.
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

        if self.remat:
            body = jax.checkpoint(body)
        if self.unstacked is None:
            return jax.lax.scan(body, x, (nnx.state(self.stacked), jnp.arange(self.count)))[0]
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
