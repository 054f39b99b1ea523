"""Lists of LightGCN and NGCF (Gowalla, Yelp2018, Amazon-Book): `train.txt` and `test.txt`.

Each line is a user and the items of that user, numbers between spaces: `user_id item_id item_id ...`; the items of a
user in `test.txt` come after those in `train.txt`. `item_list.txt`, where it is there, gives each item's original id
(`org_id remap_id`, with a header). The items of a line are in no order of time, and the division was random.
"""

import numpy as np
import pyarrow as pa
from absl import logging
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the two lists, and the original ids of the items where they are there."""
    prefix = f"{subset}*/" if subset else ""
    names = {"train": "train.txt", "test": "test.txt"}
    paths = {role: [folders.one(folder, prefix + name)] for role, name in names.items()}
    return paths | {"items": folders.at_most_one(folder, prefix + "item_list.txt")}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with a column `order`, and items that have no text."""
    paths = files(folder, subset)
    logging.warning("%s: LightGCN lists have no times: the order of the lists stands in for them", folder)
    columns = sequences([paths["train"][0], paths["test"][0]])
    ids = np.unique(columns["item_id"].to_numpy(zero_copy_only=False))
    items: dict[str, object] = {"item_id": pa.array(ids, pa.string())}
    if paths["items"]:
        pairs = parsing.cells(paths["items"][0], " ", ("original_id", "item_id"), skip=1).table
        original = dict(zip(pairs["item_id"].to_pylist(), pairs["original_id"].to_pylist(), strict=True))
        items["original_id"] = pa.array([original.get(item) for item in ids], pa.string())
    return reading.Tables(
        reading.from_columns(columns, str(paths["train"][0])),
        reading.from_columns(items, str(paths["train"][0])),
        text_fields=(),
    )


def sequences(paths: list[epath.Path]) -> dict[str, pa.Array]:
    """Returns user_id, item_id and order from files of lines `user_id item_id item_id ...`.

    A user's items in a later file come after those in an earlier one; a user may have none. Raises `DataError` if there
    are no items at all.
    """
    users: list[pa.Array] = []
    items: list[pa.Array] = []
    orders: list[np.ndarray] = []
    before: dict[str, int] = {}
    for path in paths:
        for number, block in parsing.byte_blocks(path):
            try:
                rows = [words for line in block.decode().split("\n") if (words := line.split())]
            except UnicodeDecodeError as error:
                line = number + block[: error.start].count(b"\n")
                raise DataError(f"{path}, line {line}: is not UTF-8. Download the file again.") from error
            if not rows:
                continue
            lengths = [len(row) - 1 for row in rows]
            users.append(pa.array(np.repeat([row[0] for row in rows], lengths), pa.string()))
            items.append(pa.array([item for row in rows for item in row[1:]], pa.string()))
            for row, length in zip(rows, lengths, strict=True):
                start = before.get(row[0], 0)
                orders.append(np.arange(start, start + length))
                before[row[0]] = start + length
    if not sum(map(len, items)):
        raise reading.no_rows(paths[0])
    return {
        "user_id": pa.concat_arrays(users),
        "item_id": pa.concat_arrays(items),
        "order": pa.array(np.concatenate(orders), pa.int64()),
    }
