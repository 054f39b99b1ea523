"""Files of a public dataset in the folder that it was downloaded to, or in folders in it, as they were published."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from genrec.data.errors import DataError

Files = Mapping[str, Sequence[epath.Path]]  # by what they hold; a name says nothing of the folder
DEEPEST = 3  # folders within the folder
ARCHIVES = ("*.zip", "*.tar", "*.tar.gz", "*.tgz", "*.tar.bz2", "*.7z", "*.rar")


def find(folder: epath.PathLike, *patterns: str) -> list[epath.Path]:
    """Returns the files in a folder, and in folders in it, that match one of the patterns, sorted by path.

    A pattern is of a name, such as meta_*.json, or of the end of a path, such as ml-1m*/ratings.dat. Raises `DataError`
    if there is no such folder.
    """
    if not epath.Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder. Set data.folder to the folder with the files of the dataset.")
    wanted = [pattern.split("/") for pattern in patterns]
    return [
        path
        for path in _walk(epath.Path(folder), DEEPEST)
        if any(all(map(fnmatch.fnmatchcase, path.parts[-len(parts) :], parts)) for parts in wanted)
    ]


def _walk(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
    """Yields the files of a folder and of those in it: epath's glob has no `**`, and expands "[" in the path."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):  # what systems leave behind
            continue
        if not path.is_dir():
            yield path
        elif depth:
            yield from _walk(path, depth - 1)


def one(folder: epath.PathLike, *patterns: str) -> epath.Path:
    """Returns the only file that matches one of the patterns; raises `DataError` if there is none, or several."""
    found = find(folder, *patterns)
    if len(found) != 1:
        raise unexpected(folder, f"one file {' or '.join(patterns)}", found)
    return found[0]


def unexpected(folder: epath.PathLike, wanted: str, found: Sequence[epath.Path]) -> DataError:
    """Returns the error for files that are missing, or that several datasets have."""
    names = ", ".join(str(path)[len(str(folder)) :].lstrip("/") for path in found[:5]) or "none"
    archives = [] if found else find(folder, *ARCHIVES)
    remedy = "Say which dataset by data.subset, the beginning of its file or folder names, or give" if found else "Give"
    if archives:
        remedy = f"Unpack {archives[0].name}, or give"
    return DataError(
        f"{folder}: expected {wanted}, found {names}. {remedy} the folder of one dataset as data.folder "
        "(docs/data_sources.md)."
    )


def at_most_one(folder: epath.PathLike, *patterns: str) -> list[epath.Path]:
    """Returns the only file that matches one of the patterns, or none; raises `DataError` if there are several."""
    return [one(folder, *patterns)] if find(folder, *patterns) else []


def some(folder: epath.PathLike, *patterns: str) -> list[epath.Path]:
    """Returns the files that match one of the patterns; raises `DataError` if there are none."""
    return find(folder, *patterns) or [one(folder, *patterns)]
