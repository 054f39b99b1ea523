"""File I/O of arrays, Parquet tables and texts, on local file systems and in buckets."""

import io
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from etils import epath


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text as `write_bytes` writes bytes."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it; makes its folder where there is none."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.partial"
    temporary.write_bytes(content)
    temporary.replace(path)


def read_parquet(path: epath.PathLike) -> pa.Table:
    """Returns the table of a Parquet file."""
    with epath.Path(path).open("rb") as file:
        return pyarrow.parquet.read_table(io.BytesIO(file.read()))


def write_parquet(table: pa.Table, path: epath.PathLike) -> None:
    """Writes a table as `write_bytes` writes bytes."""
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    write_bytes(path, buffer.getvalue())


def save_array(path: epath.PathLike, array: np.ndarray) -> None:
    """Writes an array as .npy, directly: for files in folders, or with names, that are temporary themselves."""
    with epath.Path(path).open("wb") as file:
        np.save(file, array, allow_pickle=False)


def load_array(path: epath.PathLike) -> np.ndarray:
    """Returns the array of a .npy file."""
    with epath.Path(path).open("rb") as file:
        return np.load(file, allow_pickle=False)


def array_shape(path: epath.PathLike) -> tuple[int, ...]:
    """Returns the shape of the array of a .npy file; reads its header alone."""
    with epath.Path(path).open("rb") as file:
        return _read_header(file)[0]


def load_rows(path: epath.PathLike, start: int, stop: int) -> np.ndarray:
    """Returns the rows [start, stop) of the array of a .npy file; reads nothing else if rows are contiguous."""
    with epath.Path(path).open("rb") as file:
        shape, fortran_order, dtype = _read_header(file)
        if not fortran_order:
            width = int(np.prod(shape[1:]))
            file.seek(start * width * dtype.itemsize, io.SEEK_CUR)
            content = file.read((stop - start) * width * dtype.itemsize)
            return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])
    return load_array(path)[start:stop]


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
