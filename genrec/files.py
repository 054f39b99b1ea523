"""File I/O of arrays, Parquet tables, JSON and texts, on local file systems and in buckets.

A file is written under a temporary name of its writer alone, `.NAME.partial.OWNER`, and renamed. The next run removes
what a killed process left (`remove_leftovers`).
"""

import contextlib
import errno
import io
import itertools
import json
import math
import os
import socket
import time
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from etils import epath

from genrec.errors import ArtifactError

MANIFEST = "artifact.json"  # in the folder of every artifact
LEFT_OVER_SECONDS = 24 * 60 * 60  # a temporary file of another host that has not changed for so long is left over
# Folders of a work directory that other libraries write, with clean-up of their own and many files.
FOREIGN_FOLDERS = ("checkpoints", "profile", "sequences", "tensorboard", "unreadable_checkpoints")
# What the readers of JSON, .npy, .npz and Parquet raise for wrong content.
READING_ERRORS = (
    OSError, ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile,
    pa.ArrowException,
)  # fmt: skip
NO_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # pyarrow's OSErrors for wrong content have no number


class DamagedError(ArtifactError):
    """A file that cannot be read as what it should be, or an artifact with such a file."""


def temporary_path(path: epath.PathLike) -> epath.Path:
    """Returns a name beside `path`, for what is renamed to `path` when it is complete; each call returns another."""
    path = epath.Path(path)
    return path.parent / f".{path.name}.partial.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def remove_leftovers(folder: epath.PathLike, depth: int = 3) -> None:
    """Removes the temporary files and folders that killed processes left in `folder` and `depth` levels below it."""
    for entry in list(epath.Path(folder).iterdir()):
        if ".partial." in entry.name:
            if _is_left_over(entry):
                remove(entry)
        elif depth and entry.name not in FOREIGN_FOLDERS and entry.is_dir():
            remove_leftovers(entry, depth - 1)


def resolved(path: epath.PathLike) -> epath.Path:
    """Returns the absolute path without links, which etils does not follow."""
    return epath.Path(path) if "://" in str(path) else epath.Path(Path(path).expanduser().resolve())


def walk(folder: epath.PathLike) -> Iterator[epath.Path]:
    """Yields all files in a folder and the folders within."""
    for entry in epath.Path(folder).iterdir():
        if entry.is_dir():
            yield from walk(entry)
        else:
            yield entry


def remove(path: epath.Path) -> None:
    """Removes a file or a folder, unless it is gone already."""
    with contextlib.suppress(FileNotFoundError):
        path.rmtree() if path.is_dir() else path.unlink()


def _is_left_over(path: epath.Path) -> bool:
    host, _, process = path.name.rpartition(".partial.")[2].rpartition("-")[0].rpartition("-")
    if host == socket.gethostname():
        return not _is_running(process)
    try:
        return time.time() - path.stat().mtime > LEFT_OVER_SECONDS
    except FileNotFoundError:
        return False


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    return True


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text as `write_bytes` writes bytes."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it; makes its folder where there is none."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields a temporary path, whose file replaces `path` if the block ends without an exception, else is removed."""
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns a JSON-like value as JSON, which has no numbers that are not finite: they become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes `to_json` of a value as `write_bytes` writes bytes."""
    write_text(path, to_json(value, indent=2) + "\n")


def read_json(path: epath.PathLike) -> dict[str, Any]:
    """Returns the object of a JSON file; raises DamagedError if it holds none."""
    with reading(path, "JSON"):
        value = json.loads(epath.Path(path).read_bytes().decode())
        if not isinstance(value, dict):
            raise ValueError(f"{type(value).__name__} in place of an object")
        return value


def read_parquet(path: epath.PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns the table of a Parquet file, or these columns of it, which alone are read.

    Raises DamagedError if it cannot be read.
    """
    with reading(path, "Parquet"), epath.Path(path).open("rb") as file:
        return pyarrow.parquet.read_table(io.BytesIO(file.read()) if columns is None else file, columns=columns)


def parquet_batches(path: epath.PathLike, columns: Sequence[str], rows: int = 1 << 14) -> Iterator[pa.RecordBatch]:
    """Yields columns of a Parquet file, at most `rows` rows at a time; raises DamagedError if it cannot be read."""
    with reading(path, "Parquet"), epath.Path(path).open("rb") as file:
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(rows, columns=list(columns))


def parse_parquet(content: bytes) -> pa.Table:
    """Returns the table of the content of a Parquet file."""
    return pyarrow.parquet.read_table(io.BytesIO(content))


def write_parquet(table: pa.Table, path: epath.PathLike) -> None:
    """Writes a table as `write_bytes` writes bytes."""
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    write_bytes(path, buffer.getvalue())


def write_parquet_parts(parts: Iterable[pa.Table], path: epath.PathLike) -> None:
    """Writes tables of one schema, of which there is at least one, as a table whose row groups they are.

    Holds one of them at a time. The file is written under a temporary name, then renamed.
    """
    parts = iter(parts)
    first = next(parts)
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        pyarrow.parquet.ParquetWriter(file, first.schema) as writer,
    ):
        for part in itertools.chain([first], parts):
            writer.write_table(part)


def save_array(path: epath.PathLike, array: np.ndarray) -> None:
    """Writes an array as .npy, directly: for files in folders, or with names, that are temporary themselves."""
    with epath.Path(path).open("wb") as file:
        np.save(file, array, allow_pickle=False)


def save_rows(path: epath.PathLike, blocks: Iterable[np.ndarray], rows: int) -> None:
    """Writes blocks of rows, `rows` in all and of one type and width, as `save_array` writes the whole array."""
    with epath.Path(path).open("wb") as file:
        for number, block in enumerate(blocks):
            if not number:
                shape = (rows, *block.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(block.tobytes())


def load_array(path: epath.PathLike) -> np.ndarray:
    """Returns the array of a .npy file; raises DamagedError if it cannot be read, as all functions for arrays do."""
    with reading(path, "an array"), epath.Path(path).open("rb") as file:
        _read_header(file)  # refuses archives, which np.load would open
        file.seek(0)
        return np.load(file, allow_pickle=False)


def map_array(path: epath.PathLike) -> np.ndarray:
    """Returns the array of a .npy file: memory-mapped where it is on a file system, loaded from a bucket."""
    if "://" in str(path):
        return load_array(path)
    with reading(path, "an array"):
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def load_arrays(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz file by name."""
    with reading(path, "arrays"), np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as file:
        return dict(file)


def array_shape(path: epath.PathLike) -> tuple[int, ...]:
    """Returns the shape of the array of a .npy file; reads its header alone."""
    with reading(path, "an array"), epath.Path(path).open("rb") as file:
        return _read_header(file)[0]


def load_rows(path: epath.PathLike, rows: np.ndarray) -> np.ndarray:
    """Returns the rows int[n] of the array of a .npy file; from a bucket, reads all from the first to the last."""
    if "://" not in str(path) or not len(rows):
        return map_array(path)[rows]
    with reading(path, "an array"), epath.Path(path).open("rb") as file:
        shape, fortran_order, dtype = _read_header(file)
        if not fortran_order and not dtype.hasobject:
            width, start = int(np.prod(shape[1:])) * dtype.itemsize, int(rows.min())
            file.seek(start * width, io.SEEK_CUR)
            content = file.read((int(rows.max()) + 1 - start) * width)
            return np.frombuffer(content, dtype).reshape(-1, *shape[1:])[rows - start]
    return load_array(path)[rows]


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


@contextlib.contextmanager
def reading(path: epath.PathLike, what: str, errors: tuple[type[Exception], ...] = READING_ERRORS) -> Iterator[None]:
    """Raises DamagedError, which names the file and what to do, for errors of the block that reads it as `what`."""
    path = epath.Path(path)
    try:
        yield
    except errors as problem:
        if isinstance(problem, ArtifactError) or getattr(problem, "errno", None) not in NO_FILE:
            raise  # of a file within, or a failure of the file system, which may be worth another try
        raise DamagedError(f"{path}: cannot be read as {what} ({problem!s:.200}). {_remedy(path)}") from problem


def _remedy(path: epath.Path) -> str:
    folder = next((parent for parent in list(path.parents)[:4] if (parent / MANIFEST).exists()), None)
    if folder is None:
        return "Restore it, or give another file."
    return f"Delete the folder {folder} and run the stage that makes it again (launch/run.py runs them all)."
