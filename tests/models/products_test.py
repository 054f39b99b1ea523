"""Products on TPU v5e, by the compiler's schedule."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from genrec import config, sharding
from genrec.models.layers import MLP, Dropout
from genrec.planning import schedule, topologies


def cycles() -> int:
    """Returns those of an MLP of the paper's size, its value and its gradients."""
    cfg = config.Model(width=128, mlp=1024, compute="bfloat16")
    mesh = sharding.make_mesh(config.Mesh(), topologies.slices("v5e:1x1").devices)
    with jax.set_mesh(mesh):
        graphdef, params = nnx.split(nnx.eval_shape(lambda: MLP(cfg, nnx.Rngs(0))))

        def summed(params, x):
            return nnx.merge(graphdef, params)(x, Dropout(0.0, None)).astype(jnp.float32).sum()

        everywhere = jax.NamedSharding(mesh, PartitionSpec())
        arguments = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
            (params, jax.ShapeDtypeStruct((16, 81, 128), jnp.bfloat16)),
        )
        text = jax.jit(jax.value_and_grad(summed, argnums=(0, 1))).lower(*arguments).compile().as_text()
    return schedule.read(text).cycles


def test_rounding_where_it_is_read_saves_cycles(monkeypatch):
    wide = cycles()
    monkeypatch.setattr(sharding, "on_v5e", lambda: False)
    assert wide < 0.9 * cycles()
