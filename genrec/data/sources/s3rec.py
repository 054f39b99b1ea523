"""Adapter: the sequence files that S3-Rec published (github.com/RUCAIBox/CIKM2020-S3Rec) and TIGER, SASRec report on.

A folder with

* `sequences.txt`: one user a line, oldest first: `user_id item_id item_id ...`, ids separated by spaces. There are no
  times: the order is the time;
* `items.csv`: `item_id,asin,title,attribute_ids`, one item a line.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError

FILES = ("sequences.txt", "items.csv")


def read(folder: epath.PathLike) -> reading.Tables:
    """Interactions with a column `order` (0, 1, ... within a user), items in the order of `items.csv`.

    A few items have no title; the asin stands in for it, so that every item has some text.
    """
    folder = epath.Path(folder)
    path = folder / FILES[0]
    if not path.exists():
        raise DataError(f"{path}: no such file. Give the folder that holds {' and '.join(FILES)} as data.folder.")
    users, items, lengths = [], [], []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        user, *sequence = line.split() or [""]
        if not sequence:
            raise DataError(f"{path}, line {number}: no items. Each line is `user_id item_id item_id ...`.")
        users.append(user)
        items += sequence
        lengths.append(len(sequence))
    interactions = {
        "user_id": pa.array(users, pa.string()).take(pa.array(np.repeat(np.arange(len(users)), lengths))),
        "item_id": pa.array(items, pa.string()),
        "order": pa.array(np.concatenate([np.arange(n) for n in lengths])),
    }
    catalogue = reading.read_table(folder / FILES[1])
    table = catalogue.table
    missing = {"item_id", "asin", "title"} - set(table.column_names)
    if missing:
        raise DataError(f"{catalogue.name}: columns {sorted(missing)} are missing. Expected item_id,asin,title,...")
    titles = pc.if_else(pc.equal(pc.utf8_trim_whitespace(table["title"]), ""), table["asin"], table["title"])
    table = table.set_column(table.column_names.index("title"), "title", titles)
    items_table = reading.SourceTable(table, catalogue.name, catalogue.unit, catalogue.numbers, catalogue.first)
    return reading.Tables(reading.from_columns(interactions, str(path)), items_table)
