"""Full disks: recognized in any exception, and reported by one message."""

import errno
import os
import shutil
from pathlib import Path

from etils import epath

from genrec.errors import GenrecError

FULL = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}


class DiskFullError(GenrecError):
    """Error for a file system without space. The message names it, and what is free and wanted."""


def cause(error: BaseException, path: epath.PathLike | None = None, wanted: int | None = None) -> DiskFullError | None:
    """Returns the error to raise if a full disk has caused `error`, itself or through those it was raised from.

    Libraries in C++ report one as text. `path` is what was being written, by default the file that the error names;
    `wanted` is its size in bytes.
    """
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if (isinstance(found, OSError) and found.errno in FULL) or any(text in str(found) for text in FULL.values()):
            return DiskFullError(_message(path or getattr(found, "filename", None), wanted))
        found = found.__cause__ or found.__context__
    return None


def _message(path: epath.PathLike | None, wanted: int | None) -> str:
    need = "" if wanted is None else f"about {_size(wanted)} wanted, "
    if path is None or "://" in str(path):
        return f"no space left for {path or 'a file'}: {need}free some, and run the same command again."
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free, mount = _size(shutil.disk_usage(folder).free), folder
    while not os.path.ismount(mount):
        mount = mount.parent
    return (
        f"no space left on the file system {mount} for {path}: {need}{free} free (or a quota is used up). Free some, "
        "and run the same command again: what was saved before is whole."
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
