"""OTTO (github.com/otto-de/recsys-dataset): sessions of a shop, one JSON object a line.

The folder holds `otto-recsys-train.jsonl` (or train.jsonl), and `otto-recsys-test.jsonl` of other sessions where it is
to be read as well: {"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"}, ...]}, with times
in Unix milliseconds, and types clicks, carts and orders. A session is a user. Items have no texts.
"""

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing

EVENT = pa.struct({"aid": pa.int64(), "ts": pa.int64(), "type": pa.string()})
TYPES = {"session": pa.int64(), "events": pa.list_(EVENT)}


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of sessions; data.subset may name one, such as otto-recsys-train."""
    return {"sessions": folders.some(folder, f"{subset}*.jsonl", f"{subset}*.jsonl.gz")}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with `event_type`, and items that have no text."""
    paths = files(folder, subset)["sessions"]
    tables = [_events(block) for path in paths for block in parsing.json_blocks(path, TYPES)]
    if not tables:
        raise reading.no_rows(paths[0])
    log = parsing.without_repeats(
        reading.SourceTable(pa.concat_tables(tables), str(paths[0])), ("user_id", "item_id", "timestamp", "event_type")
    )
    items = reading.from_columns({"item_id": pc.unique(log.table["item_id"])}, str(paths[0]))
    return reading.Tables(log, items, text_fields=())


def _events(block: reading.SourceTable) -> pa.Table:
    sessions, lists = (block.table[name].combine_chunks() for name in ("session", "events"))
    events = lists.flatten()
    aid, ts, kind = (pc.struct_field(events, name) for name in ("aid", "ts", "type"))
    if sessions.null_count or aid.null_count or ts.null_count:
        raise DataError(
            f"{block.name}, from {block.where(0)} on: a session or an event lacks session, aid or ts. Download the "
            "file again."
        )
    return pa.table(
        {
            "user_id": sessions.take(pc.list_parent_indices(lists)).cast(pa.string()),
            "item_id": aid.cast(pa.string()),
            "timestamp": ts.cast(pa.timestamp("ms", "UTC")),
            "event_type": kind,
        }
    )
