"""Atomic files of RecBole (recbole.io/docs/user_guide/data/atomic_files.html), of one dataset.

The folder holds `NAME.inter` and, where they are there, `NAME.item` and `NAME.user`: cells between tabs, not quoted;
the first line names the columns with their types, as in `item_id:token`, `title:token_seq`, `rating:float`. A token_seq
is words between spaces.

The ids are the columns user_id and item_id, or the first two of type token, as in `user_id:token artist_id:token`; the
first column of `.item` and of `.user` is their id. Without a column timestamp, the order of the file stands in for
time.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.errors import shown

TYPES = ("token", "token_seq", "float", "float_seq")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of interactions, items and users; raises `DataError` unless there is one `.inter`."""
    log = folders.one(folder, f"{subset}*.inter")
    name = log.name.removesuffix(".inter")
    return {"log": [log], **{role: folders.at_most_one(folder, f"{name}.{role}") for role in ("item", "user")}}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions, items and users with their columns, whose names lose the type."""
    paths = files(folder, subset)
    source, types = _read(paths["log"][0])
    user, item = _ids(source, types)
    table = source.table
    columns = {"user_id": table[user], "item_id": table[item]}
    if "timestamp" in types:
        columns["timestamp"] = table["timestamp"]
    else:
        logging.warning("%s: has no column timestamp: the order of the file is that of time", source.name)
        columns["order"] = pa.chunked_array([np.arange(len(source))])
    if "rating" in types:
        columns["rating"] = table["rating"]
    interactions = parsing.with_columns(source, columns)
    users = _attributes(paths["user"][0], "user_id")[0] if paths["user"] else None
    if not paths["item"]:
        items = reading.from_columns({"item_id": pc.unique(interactions.table["item_id"])}, interactions.name)
        return reading.Tables(interactions, items, users, text_fields=())
    items, types = _attributes(paths["item"][0], "item_id")
    texts = [name for name, kind in types.items() if kind == "token_seq"] or list(types)
    texts = sorted((name for name in texts if name != "item_id"), key=lambda name: name != "title")
    if texts:
        items = parsing.described(items, interactions, texts)
    return reading.Tables(interactions, items, users, text_fields=tuple(texts))


def _read(path: epath.Path) -> tuple[reading.SourceTable, dict[str, str]]:
    """Returns a table, with text, numbers and lists by the types of its columns, and these types by column."""
    header = next(parsing.byte_blocks(path), (1, b""))[1].split(b"\n", 1)[0].decode("utf-8", "replace").strip("\r")
    pairs = [name.rpartition(":") for name in header.split("\t")]
    wrong = [name for name, _, kind in pairs if not name or kind not in TYPES]
    if wrong or len({name for name, _, _ in pairs}) != len(pairs):
        raise DataError(
            f"{path}, line 1: {shown(header)} does not name each column once, with one of the types "
            f"{', '.join(TYPES)}, such as item_id:token, between tabs."
        )
    types = {name: kind for name, _, kind in pairs}
    source = parsing.cells(path, "\t", list(types), skip=1)
    columns = {name: _typed(source, name, kind) for name, kind in types.items()}
    return parsing.with_columns(source, columns), types


def _typed(source: reading.SourceTable, name: str, kind: str) -> pa.ChunkedArray:
    column = source.table[name]
    if kind in ("token", "token_seq") or name in ("timestamp", "rating"):
        return column
    empty = pc.equal(pc.utf8_trim_whitespace(column), "")
    try:
        if kind == "float":
            return pc.if_else(empty, None, column).cast(pa.float64())
        return pc.split_pattern(pc.if_else(empty, None, column), " ").cast(pa.list_(pa.float64()))
    except pa.ArrowInvalid as error:
        raise DataError(f"{source.name}, column {name}:{kind}: {error}. Write the file again.") from error


def _ids(source: reading.SourceTable, types: dict[str, str]) -> tuple[str, str]:
    """Returns the columns of the ids of users and items."""
    if "item_id_list" in types:
        raise DataError(
            f"{source.name}: has a history in each row (item_id_list), so that interactions repeat. Give the "
            ".inter file of single interactions."
        )
    tokens = [name for name, kind in types.items() if kind == "token"]
    if "user_id" in types and "item_id" in types:
        return "user_id", "item_id"
    if len(tokens) < 2:
        raise DataError(f"{source.name}: has no two columns of type token, for users and items.")
    return tokens[0], tokens[1]


def _attributes(path: epath.Path, name: str) -> tuple[reading.SourceTable, dict[str, str]]:
    """Returns the table of items or users, and the types of its columns.

    The first column is the id, and the first one of items whose name ends in title or name is the title.
    """
    source, types = _read(path)
    names = {column: column for column in types} | {next(iter(types)): name}
    title = next((column for column in list(types)[1:] if column.endswith(("title", "name"))), None)
    if name == "item_id" and title and "title" not in types:
        names[title] = "title"
    columns = {names[column]: source.table[column] for column in types}
    return parsing.with_columns(source, columns), {names[column]: kind for column, kind in types.items()}
