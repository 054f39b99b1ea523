"""Last.fm-1K (ocelma.net/MusicRecommendationDataset): what about 1,000 users heard, newest first.

The folder holds `userid-timestamp-artid-artname-traid-traname.tsv`, cells between tabs without a header and without
quoting, and `userid-profile.tsv` (#id, gender, age, country, registered). One in ten plays has no track id: artist and
track name stand in for it.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.sources import folders, parsing
from genrec.progress import progress

PLAYS = ("user_id", "timestamp", "artist_id", "artist", "track_id", "track")
USERS = ("user_id", "gender", "age", "country", "registered")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the plays and, where it is there, of the users."""
    name = "userid-timestamp-artid-artname-traid-traname.tsv"
    return {
        "plays": [folders.one(folder, f"{subset}{name}", f"{subset}{name}.gz")],
        "users": folders.at_most_one(folder, f"{subset}userid-profile.tsv"),
    }


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns plays, tracks with `title`, "artist - track", and `artist`, and users."""
    paths = files(folder, subset)
    path = paths["plays"][0]
    plays, tracks = [], []
    seen: set[str] = set()
    for block in progress(parsing.cell_blocks(path, "\t", PLAYS), f"reading {path.name}"):
        table = block.table
        title = pc.binary_join_element_wise(table["artist"], table["track"], " - ")
        item = pc.if_else(pc.equal(table["track_id"], ""), title, table["track_id"])
        columns = {"user_id": table["user_id"], "item_id": item, "timestamp": table["timestamp"]}
        plays.append(parsing.with_columns(block, columns))
        columns = {"item_id": item, "title": title, "artist": table["artist"], "artist_id": table["artist_id"]}
        first = np.unique(parsing.codes(item), return_index=True)[1]
        rows = pa.table(columns).take(pa.array(np.sort(first))).to_pylist()
        rows = [row for row in rows if row["item_id"] not in seen]
        seen.update(row["item_id"] for row in rows)
        tracks.append(pa.Table.from_pylist(rows, pa.schema(dict.fromkeys(columns, pa.string()))))
    if not plays:
        raise reading.no_rows(path)
    return reading.Tables(
        parsing.without_repeats(reading.concatenate(plays)),
        reading.SourceTable(pa.concat_tables(tracks), str(path)),
        _users(paths["users"][0]) if paths["users"] else None,
        text_fields=("title",),
    )


def _users(path: epath.Path) -> reading.SourceTable:
    source = parsing.cells(path, "\t", USERS, skip=1)
    age = pc.if_else(pc.match_substring_regex(source.table["age"], r"^\d{1,3}$"), source.table["age"], None)
    columns = {name: source.table[name] for name in USERS} | {"age": age.cast(pa.int32())}
    return parsing.with_columns(source, columns)
