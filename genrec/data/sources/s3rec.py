"""Adapter for the sequence files of S3-Rec (github.com/RUCAIBox/CIKM2020-S3Rec), on which TIGER is evaluated.

The folder holds one of

* as published: `<name>.txt` and `<name>_item2attributes.json`, of which data.subset names one (Beauty, ...) where there
  are several. Attributes are numbers, without names: the text of an item is words such as `attribute12`;
* with titles: `sequences.txt`, and `items.csv` with the columns `item_id,asin,title,attribute_ids`.

In both, the sequences are one user per line, `user_id item_id item_id ...`, oldest item first, ids separated by spaces;
the order stands in for timestamps.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing

FILES = ("sequences.txt", "items.csv")
ATTRIBUTES = "_item2attributes.json"


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the sequences and of the items; raises `DataError` unless there is one of each."""
    folder = epath.Path(folder)
    if folders.find(folder, f"{subset}*{ATTRIBUTES}") and not (folder / FILES[0]).exists():
        attributes = folders.one(folder, f"{subset}*{ATTRIBUTES}")
        sequences = attributes.parent / f"{attributes.name.removesuffix(ATTRIBUTES)}.txt"
        paths = (sequences, attributes)
    else:
        paths = (folder / FILES[0], folder / FILES[1])
    for path in paths:
        if not path.exists():
            raise DataError(
                f"{path}: no such file. Give the folder that holds {' and '.join(FILES)}, or NAME.txt and "
                f"NAME{ATTRIBUTES}, as data.folder."
            )
    return {FILES[0]: [paths[0]], FILES[1]: [paths[1]]}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with a column `order` (0, 1, ... within a user), and the items in the order of their file.

    A few items have no title; the ASIN stands in for it, so that every item has some text.
    """
    sequences, items = (paths[0] for paths in files(folder, subset).values())
    rows = [line.split() for line in sequences.read_text().splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise DataError(f"{sequences}, line {number}: no items. Each line is `user_id item_id item_id ...`.")
    if not rows:
        raise reading.no_rows(sequences)
    lengths = [len(row) - 1 for row in rows]
    interactions = {
        "user_id": pa.array(np.repeat([row[0] for row in rows], lengths), pa.string()),
        "item_id": pa.array([item for row in rows for item in row[1:]], pa.string()),
        "order": pa.array(np.concatenate([np.arange(n) for n in lengths])),
    }
    log = reading.from_columns(interactions, str(sequences))
    if items.name.endswith(ATTRIBUTES):
        return reading.Tables(log, _with_attributes(items, log), text_fields=("attributes",))
    return reading.Tables(log, _with_titles(items), text_fields=("title",))


def _with_titles(path: epath.Path) -> reading.SourceTable:
    catalogue = reading.read_table(path)
    table = catalogue.table
    missing = {"item_id", "asin", "title"} - set(table.column_names)
    if missing:
        raise DataError(f"{catalogue.name}: columns {sorted(missing)} are missing. Expected item_id,asin,title,...")
    titles = pc.if_else(pc.equal(pc.utf8_trim_whitespace(table["title"]), ""), table["asin"], table["title"])
    table = table.set_column(table.column_names.index("title"), "title", titles)
    return dataclasses.replace(catalogue, table=table)


def _with_attributes(path: epath.Path, log: reading.SourceTable) -> reading.SourceTable:
    """Returns the items of the attributes and, after them, those of the log that have none, whose id stands in."""
    attributes = parsing.json_file(path)
    if not isinstance(attributes, dict) or not all(isinstance(value, list) for value in attributes.values()):
        raise DataError(f'{path}: is not an object of lists, {{"1": [12, 7], ...}}. Download the file again.')
    named = {item: [f"attribute{number}" for number in numbers] for item, numbers in attributes.items()}
    columns = {
        "item_id": pa.array(named, pa.string()),
        "attributes": pa.array(named.values(), pa.list_(pa.string())),
    }
    return parsing.described(reading.from_columns(columns, str(path)), log, ("attributes",))
