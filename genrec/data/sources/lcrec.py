"""Datasets of LC-Rec, LETTER and MiniOneRec: JSON objects by index numbers from "0".

The folder holds, for one NAME,

* `NAME.inter.json`: {user: [item, item, ...]}, oldest first; the order stands in for time. MiniOneRec's
  `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter` (user_id, item_id_list, item_id) are not read: their
  histories are cut, and their rows repeat what is here;
* `NAME.item.json`: {item: {"title": ..., "description": ..., "brand": ..., "categories": ...}}.

Item i is row i of `NAME.emb-*.npy` (embeddings.source=vectors, embeddings.vectors=PATH), and the key i of
`NAME.index.json`, which holds given semantic IDs (semantic_ids.method=given, semantic_ids.given=PATH).
"""

from typing import Any

import numpy as np
import pyarrow as pa
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.errors import shown

FIRST = ("title", "description", "brand", "categories")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of sequences and items; raises `DataError` unless there is one of each."""
    log = folders.one(folder, f"{subset}*.inter.json")
    name = log.name.removesuffix(".inter.json")
    return {"log": [log], "items": [folders.one(folder, f"{name}.item.json")]}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with a column `order`, and the items in the order of their numbers."""
    log, items = (paths[0] for paths in files(folder, subset).values())
    sequences = _object(log, "lists of items", list)
    described = _object(items, "objects", dict)
    for user, sequence in sequences.items():
        wrong = [item for item in sequence if not isinstance(item, int | str) or item == "" or isinstance(item, bool)]
        if wrong:
            raise DataError(f"{log}, user {shown(user)}: {shown(wrong[0])} is no item. Download the file again.")
    lengths = [len(sequence) for sequence in sequences.values()]
    if not sum(lengths):
        raise reading.no_rows(log)
    interactions = {
        "user_id": pa.array(np.repeat(list(sequences), lengths), pa.string()),
        "item_id": pa.array([str(item) for sequence in sequences.values() for item in sequence], pa.string()),
        "order": pa.array(np.concatenate([np.arange(n) for n in lengths])),
    }
    names = [name for name in FIRST if any(name in row for row in described.values())]
    names += sorted({name for row in described.values() for name in row} - {*FIRST, "item_id"})
    numbered = sorted(described, key=lambda item: (len(item), item))  # "2" before "10": rows of the vectors
    columns = {"item_id": pa.array(numbered, pa.string())}
    columns |= {name: pa.array([_text(described[item].get(name)) for item in numbered], pa.string()) for name in names}
    texts = tuple(name for name in FIRST if name in names) or tuple(names)
    source, catalogue = reading.from_columns(interactions, str(log)), reading.from_columns(columns, str(items))
    return reading.Tables(
        source, parsing.described(catalogue, source, texts) if texts else catalogue, text_fields=texts
    )


def _object(path: epath.Path, what: str, kind: type) -> dict[str, Any]:
    content = parsing.json_file(path)
    if not isinstance(content, dict) or not all(isinstance(value, kind) for value in content.values()):
        raise DataError(f"{path}: is not an object of {what} by index number. Download the file again.")
    return content


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(parsing.names(value))
    return value if value is None or isinstance(value, str) else str(value)
