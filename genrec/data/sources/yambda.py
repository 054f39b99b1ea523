"""Yambda (huggingface.co/datasets/yandex/yambda): what users of a music service heard and liked, in Parquet.

The folder holds `listens.parquet`, `likes.parquet` or `multi_event.parquet` of one size (50m, 500m, 5b), flat (uid,
item_id, timestamp, ...) or sequential (the same, as lists); data.subset chooses, such as likes, flat/50m or
flat/50m/likes, listens by default. Items get the audio `embeddings.parquet` (item_id, normalized_embed) as vectors, and
`artist_item_mapping.parquet` and `album_item_mapping.parquet` as words, where they are there.

`timestamp` counts seconds, in steps of five, from a day that is not published: it is an order here. The rating of a
listen is its played_ratio_pct: data.min_rating=50 keeps those that Yambda's benchmark counts.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.progress import progress

COLUMNS = {
    "uid": pa.string(),
    "item_id": pa.string(),
    "timestamp": pa.int64(),
    "event_type": pa.string(),
    "played_ratio_pct": pa.float64(),
}
EVENTS = ("listens", "likes", "dislikes", "unlikes", "undislikes", "multi_event")
NAMES = {"uid": "user_id", "timestamp": "order", "played_ratio_pct": "rating"}
MAPPINGS = {"artists": ("artist_item_mapping.parquet", "artist"), "albums": ("album_item_mapping.parquet", "album")}


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of events, embeddings and mappings."""
    optional = {"vectors": "embeddings.parquet"} | {role: name for role, (name, _) in MAPPINGS.items()}
    part, _, name = subset.removesuffix(".parquet").rpartition("/")
    if name not in EVENTS:  # the subset is a size, or empty
        part, name = subset, "listens"
    return {
        "log": [folders.one(folder, f"{part}/{name}.parquet" if part else f"{name}.parquet")],
        **{role: folders.at_most_one(folder, name) for role, name in optional.items()},
    }


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with a column `order`, and items with vectors, artists and albums where these are there.

    Where there are vectors, the interactions of items that have none are dropped.
    """
    paths = files(folder, subset)
    path = paths["log"][0]
    table = pa.concat_tables([_events(batch, path) for batch in _batches(path, tuple(COLUMNS))])
    log = reading.SourceTable(table, str(path))
    items: dict[str, object] = {"item_id": pc.unique(table["item_id"])}
    if paths["vectors"]:
        items = _vectors(paths["vectors"][0], items["item_id"])
        known = pc.is_in(table["item_id"], pc.unique(items["item_id"])).to_numpy()
        log = parsing.said(parsing.keep(log, known), len(log), "of items without a vector")
    mapped = [role for role in MAPPINGS if paths[role]]
    for role in mapped:
        items[role] = _mapping(paths[role][0], items["item_id"], MAPPINGS[role][1])
    return reading.Tables(
        parsing.without_repeats(log, [name for name in table.column_names if name != "rating"]),
        reading.from_columns(items, str(path)),
        text_fields=tuple(mapped),
    )


def _batches(path: epath.Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """Yields the columns of a file that are among `columns`, in blocks of rows."""
    with path.open("rb") as raw:
        file = pyarrow.parquet.ParquetFile(raw)
        found = [name for name in columns if name in file.schema_arrow.names]
        yield file.schema_arrow.empty_table().select(found)
        for batch in progress(file.iter_batches(reading.BLOCK_ROWS, columns=found), f"reading {path.name}"):
            yield pa.Table.from_batches([batch])


def _events(table: pa.Table, path: epath.Path) -> pa.Table:
    """Returns the events of a block in genrec's columns; lists of a user's events become rows."""
    missing = [name for name in ("uid", "item_id", "timestamp") if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]} is missing (found: {', '.join(table.column_names)}). Give Yambda as it was "
            "published; other Parquet files are read by data.source=table."
        )
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    lists = [name for name, column in columns.items() if pa.types.is_list(column.type)]
    if lists:
        parents = pc.list_parent_indices(columns[lists[0]])
        columns = {
            name: column.flatten() if name in lists else column.take(parents) for name, column in columns.items()
        }
    return pa.table({NAMES.get(name, name): _plain(column, COLUMNS[name]) for name, column in columns.items()})


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).cast(kind)


def _vectors(path: epath.Path, items: pa.Array) -> dict[str, object]:
    """Returns the items that have a vector, with it."""
    tables = []
    for table in _batches(path, ("item_id", "normalized_embed")):
        ids = table["item_id"].cast(pa.string())
        rows = pc.is_in(ids, items)
        vectors = table["normalized_embed"].filter(rows).cast(pa.list_(pa.float32()))
        tables.append(pa.table({"item_id": ids.filter(rows), "vector": vectors}))
    found = pa.concat_tables(tables)
    return {name: found[name] for name in found.column_names}


def _mapping(path: epath.Path, items: pa.ChunkedArray, word: str) -> pa.Array:
    """Returns words such as artist12 for each of the items."""
    named: dict[str, list[str]] = {item: [] for item in items.to_pylist()}
    for table in _batches(path, (f"{word}_id", "item_id")):
        for owner, item in zip(table[f"{word}_id"].to_pylist(), table["item_id"].to_pylist(), strict=True):
            if str(item) in named:
                named[str(item)].append(f"{word}{owner}")
    return pa.array(named.values(), pa.list_(pa.string()))
