"""Products with the matrices of a model, in the form that the devices of the mesh multiply fast.

TPU v5e rounds slowly: by the compiler's schedule (libtpu 0.0.42.1), a product of 4,096 x 128 by 128 x 1,024 takes 9,000
cycles with a float32 result, 42,600 with a bfloat16 one, and 9,200 with both. So where the compute dtype is bfloat16,
results that only further products read are `Rounded`: the same numbers twice.
"""

import enum
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from genrec import config, sharding
from genrec.sharding import constrain

SHORT = 256  # inner dimension up to which rounding takes longer than multiplying


class Rounded(NamedTuple):
    """An array in the compute dtype, twice. Gradients are those of `read`."""

    read: jax.Array  # float32 on TPU v5e, rounded within the product that reads it
    kept: jax.Array  # for all other uses


def once(x: jax.Array) -> jax.Array:
    """Returns x, written to memory instead of being computed anew in each operation that uses it, on TPUs."""
    return jax.lax.optimization_barrier(x) if sharding.on_tpu() else x


def rounded(x: jax.Array, dtype: Any) -> Rounded:
    """Returns x, float32 or already of this dtype, in a dtype."""
    kept = x.astype(dtype)
    if x.dtype == dtype or not sharding.on_v5e():
        return Rounded(kept, kept)
    # As integers: of a float32 array, the compiler would move the rounding into the operation that makes it.
    bits, kept = jax.lax.optimization_barrier((jax.lax.bitcast_convert_type(x, jnp.int32), kept))
    return Rounded(jax.lax.bitcast_convert_type(bits, jnp.float32), kept)


def rounded_once(x: jax.Array, dtype: Any) -> Rounded:
    """Returns what `rounded` does, written to memory `once`."""
    found = rounded(x, dtype)
    if found.read is not found.kept:
        return found
    kept = once(found.kept)
    return Rounded(kept, kept)


class Wide(enum.Enum):
    """Parts of a linear layer that are float32 on TPU v5e."""

    NOTHING = enum.auto()
    GRADIENT = enum.auto()  # of the result, which is float32, too, but was rounded before
    BOTH = enum.auto()


class Linear(nnx.Linear):
    """Linear layer whose kernel is initialized to multiply the standard deviation by `scale`.

    `inputs` and `outputs` are the logical axes (genrec.sharding.RULES) and sizes of its kernel. Who reads the result of
    a `wide` layer rounds it: on TPU v5e it is float32 if the layer has few inputs.
    """

    def __init__(
        self,
        cfg: config.Model,
        inputs: tuple[str | None, int],
        outputs: tuple[str, int],
        rngs: nnx.Rngs,
        scale: float = 1.0,
        use_bias: bool = False,
        wide: Wide = Wide.NOTHING,
    ):
        super().__init__(
            inputs[1],
            outputs[1],
            use_bias=use_bias,
            dtype=jnp.dtype(cfg.compute),
            kernel_init=nnx.initializers.normal(scale / math.sqrt(inputs[1])),
            kernel_metadata={"axes": (inputs[0], outputs[0])},
            bias_metadata={"axes": (outputs[0],)},
            rngs=rngs,
        )
        self.axes, self.wide = (inputs[0], outputs[0]), wide

    def __call__(self, x: jax.Array | Rounded) -> jax.Array:  # type: ignore[override]
        """Returns [..., outputs] for [..., inputs]."""
        if not isinstance(x, Rounded):
            kept = x.astype(self.dtype)
            x = Rounded(kept, kept)
        wide = self.wide if _short(self.in_features) else Wide.NOTHING
        result = _matmul(self.axes, wide, x, self.kernel[...])
        return result if self.bias is None else result + self.bias[...].astype(self.dtype)


def _short(width: int) -> bool:
    return sharding.on_v5e() and width <= SHORT


def _gathered(axes: tuple[str | None, str], kernel: jax.Array) -> jax.Array:
    """Returns a kernel with its shards along the model's width gathered.

    By itself XLA multiplies by one shard after another while it passes them on, in products too narrow for the matrix
    units of TPUs: with 16 shards of width 1,024 a step takes 1.8 times as many cycles.
    """
    return constrain(kernel, *(None if name == "embed" else name for name in axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _matmul(axes: tuple[str | None, str], wide: Wide, x: Rounded, kernel: jax.Array) -> jax.Array:
    """Returns x [..., inputs] times kernel [inputs, outputs], of these logical axes."""
    dtype = x.kept.dtype
    matrix = _gathered(axes, kernel.astype(dtype))
    product = jnp.matmul(
        x.read.astype(dtype), matrix, preferred_element_type=jnp.float32 if wide is Wide.BOTH else dtype
    )
    return product if wide is Wide.NOTHING else product.astype(jnp.float32)


def _matmul_forward(
    axes: tuple[str | None, str], wide: Wide, x: Rounded, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return _matmul(axes, wide, x, kernel), (x.kept, kernel, x.read[..., :0])


def _matmul_backward(
    axes: tuple[str | None, str], wide: Wide, saved: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[Rounded, jax.Array]:
    x, kernel, like = saved
    dtype = x.dtype
    given, tokens = rounded(gradient, dtype), tuple(range(x.ndim - 1))
    sums = functools.partial(
        jnp.tensordot, axes=(tokens, tokens), preferred_element_type=jnp.float32 if _short(min(kernel.shape)) else dtype
    )
    # On CPUs, XLA transposes the first factor of a sum over tokens, with all that was fused into it: the narrower one
    # comes first. This saves a quarter of a step where the MLP is eight times as wide as the model.
    narrower = x.shape[-1] <= given.kept.shape[-1]
    kernel_gradient = sums(x, given.kept) if narrower else sums(given.kept, x).T
    matrix = _gathered(axes, kernel.astype(dtype)).T
    of_x = jnp.matmul(given.read.astype(dtype), matrix, preferred_element_type=like.dtype)
    # Summed over the devices as a whole: otherwise XLA multiplies for one shard after another here, too.
    kernel_gradient = constrain(_gathered(axes, kernel_gradient), *axes)
    return Rounded(of_x, None), kernel_gradient.astype(kernel.dtype)  # type: ignore[arg-type]


_matmul.defvjp(_matmul_forward, _matmul_backward)
