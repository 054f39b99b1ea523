"""How arrays lie on devices: a mesh of three axes, and one table that says what each of them cuts.

Layers name what a dimension means ("mlp", "heads"), never hardware: changing the parallelizm changes RULES alone.
Parameters carry the names of their dimensions as the metadata `axes`; activations get theirs by `constrain`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genrec import config

AXES = ("data", "fsdp", "tensor")

RULES: dict[str | None, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),  # rows of a batch
    "embed": "fsdp",  # the width of the model, in parameters
    "mlp": "tensor",  # the width of the MLP
    "heads": "tensor",  # attention heads, one after the other where they share a dimension with their widths
    "vocabulary": "tensor",  # rows of embedding tables: tokens, or the codes of a level
    "items": AXES,  # rows of item embeddings
    "table": "tensor",  # parts of a catalogue that is cut for decoding
    "layers": None,  # of stacked layers
    None: None,
}


def make_mesh(cfg: config.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices`, by default all of this run.

    Raises ConfigError when the sizes do not multiply to the number of devices (a single process may leave some idle).
    """
    devices = jax.devices() if devices is None else devices
    sizes = {axis: getattr(cfg, axis) for axis in AXES}
    asked = ", ".join(f"mesh.{axis}={size}" for axis, size in sizes.items())
    if any(size < 1 and size != -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise config.ConfigError(f"{asked}: give sizes of at least 1; one of them may be -1, which takes what is left")
    given = math.prod(size for size in sizes.values() if size != -1)
    shape = [len(devices) // given if size == -1 else size for size in sizes.values()]
    used = math.prod(shape)
    if not 0 < used <= len(devices) or (used < len(devices) and (-1 in sizes.values() or jax.process_count() > 1)):
        raise config.ConfigError(
            f"{asked}: there are {len(devices)} devices. Choose sizes whose product is {len(devices)}; one of them may "
            "be -1, which takes what is left"
        )
    if used < len(devices):
        logging.warning("%s: %d of %d devices are left idle", asked, len(devices) - used, len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:used])


def one_device() -> Mesh:
    """The mesh for work that is too small to be shared."""
    return make_mesh(config.Mesh(1, 1, 1), jax.local_devices()[:1])


def named(mesh: Mesh, *names: str | None) -> NamedSharding:
    """The sharding of an array whose first dimensions have these names; without names, every device holds it whole."""
    return NamedSharding(mesh, PartitionSpec(*(RULES[name] for name in names)))


def parts(mesh: Mesh, name: str) -> int:
    """Into how many parts the mesh cuts dimensions of that name."""
    axes = RULES[name] or ()
    return math.prod(mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Under `jax.jit`: lays x out as its first dimensions' names say, on the mesh of `jax.set_mesh`.

    Changes nothing where there is no mesh, or one of one device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, _fitting(mesh, x.shape, names))


def with_shardings(abstract: Any, mesh: Mesh) -> Any:
    """The same tree of abstract arrays, each with the sharding that its variable's `axes` ask for.

    What has no `axes`, or no longer the dimensions that they name (the factored moments of Adafactor), is replicated.
    """

    def place(leaf: Any) -> Any:
        is_variable = isinstance(leaf, nnx.Variable)
        array = leaf.get_raw_value() if is_variable else leaf
        axes = (leaf.get_metadata().get("axes") or ()) if is_variable else ()
        names = axes if len(axes) == array.ndim else ()
        sharding = NamedSharding(mesh, _fitting(mesh, array.shape, names))
        placed = jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
        return leaf.replace(placed) if is_variable else placed

    return jax.tree.map(place, abstract, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def of(abstract: Any) -> Any:
    """The shardings of a tree that `with_shardings` made, for `jax.jit`."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def own_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """int64[n]: which rows of a batch of `rows` the devices of this process hold, in ascending order."""
    indices = named(mesh, "batch").addressable_devices_indices_map((rows,))
    return np.unique(np.concatenate([np.arange(rows)[index] for index in indices.values()]))


def put_rows(mesh: Mesh, own: Any, rows: int) -> Any:
    """A global batch of `rows` from the `own_rows` of every process: a tree of arrays, cut along their first axis."""
    sharding = named(mesh, "batch")
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x, (rows, *x.shape[1:])), own)


def put(mesh: Mesh, array: np.ndarray, *names: str | None) -> jax.Array:
    """An array that every process has whole, on the devices: each gets its part, cut as the names say."""
    return jax.make_array_from_callback(array.shape, named(mesh, *names), lambda index: array[index])


def fetch(x: jax.Array) -> np.ndarray:
    """The whole of x, in every process."""
    return np.asarray(x if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True))


def _fitting(mesh: Any, shape: tuple[int, ...], names: Sequence[str | None]) -> PartitionSpec:
    """The rules of these names, without those that would cut a dimension into unequal parts."""
    return PartitionSpec(
        *(RULES[name] if size % parts(mesh, name) == 0 else None for name, size in zip(names, shape, strict=False))
    )
