"""KuaiRand (kuairand.com): KuaiRand-Pure, -1K or -27K, short videos, as unpacked.

The folder holds `log_standard_*.csv` (user_id, video_id, date, hourmin, time_ms, is_click, ..., long_view, ...), whose
time_ms is Unix milliseconds while date and hourmin are of UTC+8, `video_features_basic_*.csv`, and
`user_features_*.csv`.

Interactions are clicks; their event type is long_view where the video was also watched, else click. What was shown and
not clicked, and the log of randomly shown videos, are dropped. Videos have no texts: tags, author and music are words.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.sources import folders, parsing

LOG = {
    "user_id": pa.string(),
    "video_id": pa.string(),
    "time_ms": pa.int64(),
    "is_click": pa.int8(),
    "long_view": pa.int8(),
}
_VIDEOS = ("video_id", "author_id", "video_type", "upload_dt", "upload_type", "video_duration", "music_id", "tag")
VIDEOS = dict.fromkeys(_VIDEOS, pa.string())


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the logs, and the features of videos and users; data.subset may be pure, 1k or 27k."""
    end = f"{subset}*.csv"
    logs = folders.some(folder, f"log_standard_*{end}")
    return {
        "logs": logs,
        "videos": [folders.one(folder, f"video_features_basic_*{end}")],
        "users": folders.at_most_one(folder, f"user_features_*{end}"),
    }


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns clicks, the clicked videos, and users with all their features."""
    paths = files(folder, subset)
    logs = [block for path in paths["logs"] for block in map(_clicks, parsing.csv_blocks(path, LOG)) if len(block)]
    if not logs:
        raise reading.no_rows(paths["logs"][0])
    log = parsing.without_repeats(parsing.joined(logs, str(folder)))
    clicked = pc.unique(log.table["item_id"])
    videos = [
        block.table.filter(pc.is_in(block.table["video_id"], clicked))
        for block in parsing.csv_blocks(paths["videos"][0], VIDEOS)
    ]
    items = reading.SourceTable(_videos(pa.concat_tables(videos)), str(paths["videos"][0]))
    users = reading.read_table(paths["users"][0]) if paths["users"] else None
    texts = ("tags", "author", "music", "video_type", "upload_type")
    return reading.Tables(log, parsing.described(items, log, texts), users, text_fields=texts)


def _clicks(block: reading.SourceTable) -> reading.SourceTable:
    block = parsing.keep(block, pc.equal(block.table["is_click"], 1).fill_null(False).to_numpy())
    table = block.table
    watched = pc.equal(table["long_view"], 1).fill_null(False)
    columns = {
        "user_id": table["user_id"],
        "item_id": table["video_id"],
        "timestamp": parsing.milliseconds(table["time_ms"]),
        "event_type": pc.if_else(watched, "long_view", "click"),
    }
    return parsing.with_columns(block, columns)


def _videos(table: pa.Table) -> pa.Table:
    """Returns the columns of the items, with words such as tag39 and author123."""
    tags = [
        [f"tag{tag.strip()}" for tag in (cell or "").strip("[]").split(",") if tag.strip()]
        for cell in table["tag"].to_pylist()
    ]
    return pa.table(
        {
            "item_id": table["video_id"],
            "tags": pa.array(tags, pa.list_(pa.string())),
            "author": _words("author", table["author_id"]),
            "music": _words("music", table["music_id"]),
            "video_type": table["video_type"],
            "upload_type": table["upload_type"],
            "upload_date": table["upload_dt"],
            "duration_ms": pa.array(
                np.array([float(cell) if cell else np.nan for cell in table["video_duration"].to_pylist()]),
                from_pandas=True,
            ),
        }
    )


def _words(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns numbers as words: "123" and "123.0" are author123, an empty cell is null."""
    number = pc.replace_substring_regex(column, r"\.0$", "")
    return pc.if_else(pc.equal(number, ""), None, pc.binary_join_element_wise(name, number, ""))
