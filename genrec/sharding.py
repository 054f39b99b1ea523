"""Sharding of arrays over a mesh of three axes, by one table of logical-axis rules.

Layers name what a dimension means ("mlp", "heads"), never hardware: changing the parallelism changes RULES alone.
Parameters carry the names of their dimensions as the metadata `axes`; activations are sharded by `constrain`.
"""

import collections
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genrec import config

AXES = ("data", "fsdp", "tensor")

# Name of a dimension -> the mesh axes over which it is sharded.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),  # rows of a batch
    "embed": "fsdp",  # width of the model, in parameters
    "mlp": "tensor",  # width of the MLP
    "heads": "tensor",  # attention heads, also where heads and their width share a dimension
    "vocabulary": "tensor",  # rows of embedding tables: tokens, or the codes of a level
    "items": AXES,  # rows of item embeddings
    "table": "tensor",  # shards of a catalogue's index
    "layers": None,  # stacked layers
    None: None,
}


def make_mesh(cfg: config.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh over `devices`, by default all devices of the run.

    Slices of TPUs, and nodes of GPUs, are connected by a slower network than the devices within one: where there are
    several, `data` runs over them, one after another, and `fsdp` and `tensor` stay within each.

    Raises ConfigError if the product of the sizes is not the number of devices (a single process may leave some idle),
    and for sizes that would divide `fsdp` or `tensor` among slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {axis: getattr(cfg, axis) for axis in AXES}
    text = ", ".join(f"mesh.{axis}={size}" for axis, size in sizes.items())
    if any(size < 1 and size != -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise config.ConfigError(f"{text}: sizes must be at least 1; one of them may be -1, for the remaining devices")
    given = math.prod(size for size in sizes.values() if size != -1)
    shape = [len(devices) // given if size == -1 else size for size in sizes.values()]
    used = math.prod(shape)
    idle = -1 not in sizes.values() and jax.process_count() == 1 and len(slices(devices)) == 1
    if not 0 < used <= len(devices) or (used < len(devices) and not idle):
        raise config.ConfigError(
            f"{text}: there are {len(devices)} devices. Choose sizes whose product is {len(devices)}; one of them may "
            "be -1, for the remaining devices"
        )
    if used < len(devices):
        logging.warning("%s: %d of %d devices are left idle", text, len(devices) - used, len(devices))
        arranged = np.asarray(devices[:used]).reshape(shape)  # they need not be a rectangle of the torus
    else:
        arranged = _arrange(devices, shape, text)
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def slices(devices: Sequence[jax.Device]) -> dict[int, int]:
    """Returns the number of devices in each slice of TPUs or node of GPUs, by the index that JAX gives it."""
    return collections.Counter(slice_of(device) for device in devices)


def slice_of(device: jax.Device) -> int:
    """Returns the index of a device's slice or node; 0 where JAX gives none, as for a TPU slice by itself."""
    return getattr(device, "slice_index", 0)


def _arrange(devices: Sequence[jax.Device], shape: Sequence[int], text: str) -> np.ndarray:
    """Returns the devices in the shape of a mesh; neighbors of `tensor` are neighbors on a TPU's torus, then `fsdp`."""
    found, (data, *within) = slices(devices), shape
    if len(found) == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    own = min(found.values())
    if own != max(found.values()):
        raise config.ConfigError(
            f"the slices (or nodes) of this run have {own} to {max(found.values())} devices: take as many in each"
        )
    if data % len(found):
        raise config.ConfigError(
            f"{text}: fsdp and tensor must lie within one of the {len(found)} slices (or nodes) of {own} devices. Set "
            f"mesh.fsdp and mesh.tensor to a product that divides {own}, and mesh.data=-1"
        )
    # JAX's own `make_mesh` refuses several slices.
    return mesh_utils.create_hybrid_device_mesh(
        (data // len(found), *within), (len(found), 1, 1), devices, allow_split_physical_axes=True
    )


def one_device() -> Mesh:
    """Returns a mesh of one device of this process, for work that is too small to be sharded."""
    return make_mesh(config.Mesh(1, 1, 1), jax.local_devices()[:1])


def named(mesh: Mesh, *names: str | None) -> NamedSharding:
    """Returns the sharding of an array whose first dimensions have these names; replicated without names."""
    return NamedSharding(mesh, PartitionSpec(*(RULES[name] for name in names)))


def parts(mesh: Mesh, name: str | None) -> int:
    """Returns the number of shards into which the mesh splits dimensions of this name."""
    axes = RULES[name] or ()
    return math.prod(mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Returns x sharded by the names of its first dimensions over the mesh of `jax.set_mesh`; for use under `jax.jit`.

    Returns x itself if there is no mesh, or one of a single device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, _fitting(mesh, x.shape, names))


def on_tpu() -> bool:
    """Returns whether the mesh of `jax.set_mesh` consists of TPUs; for choices that do not change a result."""
    return _device_kind().startswith("TPU")


def on_v5e() -> bool:
    """Returns whether the mesh of `jax.set_mesh` consists of TPU v5e; for choices that do not change a result."""
    return _device_kind() == "TPU v5 lite"


def _device_kind() -> str:
    device = jax.sharding.get_abstract_mesh().abstract_device
    return "" if device is None else device.device_kind


def with_shardings(abstract: Any, mesh: Mesh) -> Any:
    """Returns the tree of abstract arrays with the sharding given by the `axes` of each variable.

    Arrays are replicated if they have no `axes`, or not the dimensions that these name (factored moments of Adafactor).
    """

    from flax import nnx  # here, as serving does without it

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
    """Returns the shardings of a tree that `with_shardings` returned, for `jax.jit`."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def own_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Returns int64[n], the rows that the devices of this process hold of a batch of `rows`, in ascending order."""
    indices = named(mesh, "batch").addressable_devices_indices_map((rows,))
    return np.unique(np.concatenate([np.arange(rows)[index] for index in indices.values()]))


def put_rows(mesh: Mesh, own: Any, rows: int) -> Any:
    """Returns the global batch of `rows` rows, arrays sharded along axis 0, from the `own_rows` of all processes."""
    sharding = named(mesh, "batch")
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x, (rows, *x.shape[1:])), own)


def put(mesh: Mesh, array: np.ndarray, *names: str | None) -> jax.Array:
    """Returns an array, which every process has whole, sharded over the devices by the names of its dimensions."""
    return jax.make_array_from_callback(array.shape, named(mesh, *names), lambda index: array[index])


def fetch(x: jax.Array) -> np.ndarray:
    """Returns the whole of x in every process; a collective if other processes hold parts of it."""
    return np.asarray(x if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True))


def _fitting(mesh: Any, shape: tuple[int, ...], names: Sequence[str | None]) -> PartitionSpec:
    """Returns the rules of these names, without those that would split a dimension into unequal shards."""
    return PartitionSpec(
        *(RULES[name] if size % parts(mesh, name) == 0 else None for name, size in zip(names, shape, strict=False))
    )
