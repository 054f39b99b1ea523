"""Writing of the files of a bundle (`genrec.serving.bundle`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import safetensors.numpy
from etils import epath
from flax import nnx

from genrec import files
from genrec.serving import bundle


class BundleWriter:
    """Writes files of a bundle into a folder, and measures them."""

    def __init__(self, folder: epath.Path):
        self.folder, self.measured = folder, dict[str, tuple[int, str]]()
        (folder / bundle.PROGRAMS).mkdir(parents=True)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file."""
        (self.folder / name).write_bytes(content)
        self.measured[name] = (len(content), bundle.sha256(content))

    def json(self, name: str, fields: Mapping[str, Any]) -> None:
        """Writes an object as JSON."""
        self.write(name, files.to_json(fields).encode())

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays as safetensors."""
        self.write(name, safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))

    def parameters(self, name: str, params: nnx.State) -> dict[str, np.ndarray]:
        """Writes parameters as safetensors; returns them by name, in the order of the leaves."""
        paths, _ = jax.tree_util.tree_flatten_with_path(params)
        named = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in paths}
        self.arrays(name, named)
        return named

    def program(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Writes a function of these arguments as a program of their leaves, in StableHLO for all platforms."""
        leaves, structure = jax.tree.flatten(arguments)

        def of_leaves(*leaves: jax.Array) -> tuple[jax.Array, ...]:
            return tuple(jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves))))

        shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves]
        exported = jax.export.export(jax.jit(of_leaves), platforms=bundle.PLATFORMS)(*shapes)
        self.write(f"{bundle.PROGRAMS}/{name}.stablehlo", bytes(exported.serialize()))

    def table(self, name: str, table: pa.Table) -> None:
        """Writes a table as Parquet."""
        files.write_parquet(table, self.folder / name)
        content = (self.folder / name).read_bytes()
        self.measured[name] = (len(content), bundle.sha256(content))
