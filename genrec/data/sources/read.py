"""Raw data of the source that a config names: the input files, their hashes, and the tables they hold."""

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
from etils import epath

from genrec import artifacts
from genrec import config as configs
from genrec.data import logs, reading, timestamps
from genrec.data.errors import DataError
from genrec.data.sources import (
    amazon_2018,
    amazon_2023,
    folders,
    hetrec,
    kuairand,
    kuairec,
    lastfm_1k,
    lcrec,
    lightgcn,
    mcauley,
    million_playlist,
    mind,
    movielens,
    otto,
    recbole,
    s3rec,
    steam,
    synthetic,
    table,
    yambda,
)
from genrec.errors import cut, shown

HashFiles = Callable[[Sequence[epath.Path]], list[str]]


class FolderSource(Protocol):
    """Module that reads a public dataset from a folder as it was downloaded."""

    def files(self, folder: epath.PathLike, subset: str = "") -> folders.Files:
        """Returns the files that are read, by names that do not depend on their paths."""

    def read(self, folder: epath.PathLike, subset: str = "") -> reading.Tables:
        """Returns the tables in genrec's schema."""


FOLDERS: dict[str, FolderSource] = {  # by name of data.source
    "amazon_2018": amazon_2018,
    "amazon_2023": amazon_2023,
    "hetrec": hetrec,
    "kuairand": kuairand,
    "kuairec": kuairec,
    "lastfm_1k": lastfm_1k,
    "lcrec": lcrec,
    "lightgcn": lightgcn,
    "mcauley": mcauley,
    "million_playlist": million_playlist,
    "mind": mind,
    "movielens": movielens,
    "otto": otto,
    "recbole": recbole,
    "s3rec": s3rec,
    "steam": steam,
    "yambda": yambda,
}


def hash_files(files: Sequence[epath.Path]) -> list[str]:
    """Returns `artifacts.hash_file` of each file."""
    return [artifacts.hash_file(file) for file in files]


def hash_inputs(config: configs.Data, hash_log: HashFiles = hash_files) -> dict[str, str]:
    """Returns the hashes of the source's files, by names that do not depend on their paths.

    Args:
      config: Settings of the stage `prepare`.
      hash_log: Function that hashes the files of the log.

    Raises:
      DataError: if a file is missing, or the source is unknown.
    """
    inputs = {}
    for name, files in _input_files(config).items():
        for file in files:
            if not file.exists():
                raise DataError(
                    f"{file}: no such file. Check the paths of the config (data.interactions, data.items, ...)."
                )
            if file.is_dir():
                raise DataError(f"{file}: is a folder, not a file. Check the paths of the config (data.items, ...).")
        hashes = hash_log(files) if name == "interactions" else hash_files(files)
        inputs[name] = hashes[0] if len(hashes) == 1 else artifacts.hash_of(*hashes)
    return inputs


def read(config: configs.Data) -> reading.Tables:
    """Returns all tables of the source, in memory; raises DataError if a file is damaged."""
    if config.source in FOLDERS:
        try:
            return FOLDERS[config.source].read(config.folder, config.subset)
        except (OSError, EOFError, UnicodeError, zlib.error, pa.ArrowException) as error:
            raise DataError(
                f"{config.folder}: its files cannot be read ({cut(str(error))}). Download them again."
            ) from error
    if config.source == "synthetic":
        return synthetic.generate(config.synthetic).tables
    if config.source == "table":
        return table.read(config)
    interactions = logs.read(config.interactions, reading.TableFormat.of(config))
    items, users = read_items_and_users(config)
    return reading.Tables(interactions, items, users)


def read_items_and_users(config: configs.Data) -> tuple[reading.SourceTable, reading.SourceTable | None]:
    """Returns the tables of items and users of the source "files"."""
    form = reading.TableFormat.of(config)
    return reading.read_table(config.items, form), reading.read_table(config.users, form) if config.users else None


def recognized(tables: Sequence[reading.SourceTable], time: timestamps.Times) -> list[str]:
    """Returns what was recognized of the formats of files, and of the times of the log, in words."""
    marks = [f"{epath.Path(table.name).name}: {mark}" for table in tables for mark in table.marks]
    if time.column == "timestamp" and time.unit != "s" and not time.form:
        marks.append(f"times in {timestamps.UNITS[time.unit]}")
    return marks


def check_renamed(config: configs.Data, tables: Sequence[reading.SourceTable]) -> None:
    """Raises DataError if `data.columns` names a column that no file has."""
    renamed = {column for table in tables for column in table.renamed}
    absent = [theirs for _, theirs in reading.TableFormat.of(config).columns if theirs not in renamed]
    if absent:
        raise DataError(
            f"data.columns: no file has a column {shown(absent[0])}. Write NAME=COLUMN, where COLUMN is as in the file."
        )


def paths(config: configs.Data) -> dict[str, str]:
    """Returns the files and folders of the source, as the config names them, by the names of their settings."""
    names = ("interactions", "items", "users") if config.source in ("files", "table") else ("folder",)
    given = {} if config.source == "synthetic" else {f"data.{name}": getattr(config, name) for name in names}
    return {name: path for name, path in given.items() if path and not logs.is_pattern(path)}


def _input_files(config: configs.Data) -> dict[str, list[epath.Path]]:
    """Returns the files of the source, by names that do not depend on their paths."""
    if config.source in ("files", "table"):
        if not (config.interactions and (config.items or config.source == "table")):
            needed = "data.interactions" if config.source == "table" else "data.interactions and data.items"
            raise DataError(f"data.source is {config.source!r}: set {needed} to the paths of your files.")
        roles = {"items": config.items, "users": config.users}
        log_files = table.log_files if config.source == "table" else logs.files
        files = {"interactions": log_files(config.interactions)}
        return files | {role: [epath.Path(file)] for role, file in roles.items() if file}
    if config.source not in FOLDERS:
        return {}  # of the synthetic catalogue
    if not config.folder:
        raise DataError(f"data.source is {config.source!r}: set data.folder to the folder with its files.")
    found = FOLDERS[config.source].files(config.folder, config.subset)
    return {name: list(files) for name, files in found.items() if files}
