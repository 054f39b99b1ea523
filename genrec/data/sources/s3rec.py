"""Adapter for the sequence files of S3-Rec (github.com/RUCAIBox/CIKM2020-S3Rec), on which TIGER is evaluated.

The folder holds

* `sequences.txt`: one user per line, `user_id item_id item_id ...`, oldest item first, ids separated by spaces; the
  order stands in for timestamps;
* `items.csv`: `item_id,asin,title,attribute_ids`, one item per line.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError

FILES = ("sequences.txt", "items.csv")


def read(folder: epath.PathLike) -> reading.Tables:
    """Returns interactions with a column `order` (0, 1, ... within a user), and items in the order of `items.csv`.

    A few items have no title; the ASIN stands in for it, so that every item has some text.
    """
    folder = epath.Path(folder)
    path = folder / FILES[0]
    if not path.exists():
        raise DataError(f"{path}: no such file. Give the folder that holds {' and '.join(FILES)} as data.folder.")
    rows = [line.split() for line in path.read_text().splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise DataError(f"{path}, line {number}: no items. Each line is `user_id item_id item_id ...`.")
    if not rows:
        raise reading.no_rows(path)
    lengths = [len(row) - 1 for row in rows]
    interactions = {
        "user_id": pa.array(np.repeat([row[0] for row in rows], lengths), pa.string()),
        "item_id": pa.array([item for row in rows for item in row[1:]], pa.string()),
        "order": pa.array(np.concatenate([np.arange(n) for n in lengths])),
    }
    catalogue = reading.read_table(folder / FILES[1])
    table = catalogue.table
    missing = {"item_id", "asin", "title"} - set(table.column_names)
    if missing:
        raise DataError(f"{catalogue.name}: columns {sorted(missing)} are missing. Expected item_id,asin,title,...")
    titles = pc.if_else(pc.equal(pc.utf8_trim_whitespace(table["title"]), ""), table["asin"], table["title"])
    table = table.set_column(table.column_names.index("title"), "title", titles)
    return reading.Tables(reading.from_columns(interactions, str(path)), dataclasses.replace(catalogue, table=table))
