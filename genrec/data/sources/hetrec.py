"""HetRec 2011 (grouplens.org/datasets/hetrec-2011): Last.fm, MovieLens or Delicious, as unpacked.

Cells between tabs, with a header, lines that end in CR LF, times in Unix milliseconds:

* Last.fm: an interaction is a user who tagged an artist, `user_taggedartists-timestamps.dat`; `artists.dat`. The counts
  of plays in `user_artists.dat` have no times;
* MovieLens: ratings, `user_ratedmovies-timestamps.dat`; `movies.dat` (Latin-1), `movie_genres.dat`;
* Delicious: a user who tagged a bookmark, `user_taggedbookmarks-timestamps.dat`; `bookmarks.dat`.

Several tags at one time are one interaction. Tags are not read: they would say in advance who is to tag what. Times
before 1995, which the files have by mistake, and items that are not described are dropped.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.data.sources.movielens import ENCODINGS

EARLIEST = 788_918_400_000  # Unix milliseconds of 1995
LAYOUTS = {  # log -> items, their columns (the last one may hold the rest)
    "user_taggedartists-timestamps.dat": ("artists.dat", ("item_id", "title", "url")),
    "user_ratedmovies-timestamps.dat": ("movies.dat", ("item_id", "title", "imdb", "spanish", "picture", "year")),
    "user_taggedbookmarks-timestamps.dat": ("bookmarks.dat", ("item_id", "md5", "title", "url")),
}


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of interactions and items, and of genres where they are there."""
    prefix = f"{subset}*/" if subset else ""
    logs = [name for name in LAYOUTS if folders.find(folder, prefix + name)]
    if len(logs) != 1:
        found = folders.find(folder, *(prefix + name for name in LAYOUTS))
        raise folders.unexpected(folder, f"one of {', '.join(LAYOUTS)}", found)
    return {
        "log": [folders.one(folder, prefix + logs[0])],
        "items": [folders.one(folder, prefix + LAYOUTS[logs[0]][0])],
        "genres": folders.at_most_one(folder, prefix + "movie_genres.dat"),
    }


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions, with ratings of MovieLens, and items with `title`, `url` or `genres`, and `year`."""
    paths = files(folder, subset)
    log = parsing.cells(paths["log"][0], "\t", ("user_id", "item_id", "value", "timestamp"), skip=1)
    names = LAYOUTS[paths["log"][0].name][1]
    items = parsing.cells(paths["items"][0], "\t", names, skip=1, encodings=ENCODINGS)
    texts: tuple[str, ...] = ("title",)
    columns: dict[str, object] = {"item_id": items.table["item_id"], "title": items.table["title"]}
    if "year" in names:
        year = pc.struct_field(pc.extract_regex(items.table["year"], r"^(?P<year>\d{4})(?:\t|$)"), "year")
        columns |= {"genres": _genres(items, paths["genres"]), "year": year.cast(pa.int32())}
        texts = ("title", "genres")
    else:
        columns["url"] = pc.struct_field(pc.extract_regex(items.table["url"], r"^(?P<url>[^\t]*)"), "url")
    interactions = _interactions(log, items, has_ratings="year" in names)
    return reading.Tables(interactions, parsing.with_columns(items, columns), text_fields=texts)


def _interactions(log: reading.SourceTable, items: reading.SourceTable, has_ratings: bool) -> reading.SourceTable:
    """Returns what is described and has a time, once."""
    try:
        times = log.table["timestamp"].cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{log.name}, column timestamp: {error}. Download the file again.") from error
    columns = {name: log.table[name] for name in ("user_id", "item_id")}
    columns["timestamp"] = parsing.milliseconds(times)
    if has_ratings:
        columns["rating"] = log.table["value"]
    source = parsing.with_columns(log, columns)
    late = times.to_numpy() >= EARLIEST
    described = pc.is_in(columns["item_id"], items.table["item_id"].combine_chunks()).to_numpy()
    kept = parsing.said(parsing.keep(source, late), len(source), "before 1995")
    kept = parsing.said(parsing.keep(kept, described[late]), len(kept), "of items that are not described")
    return parsing.without_repeats(kept)


def _genres(items: reading.SourceTable, paths: Sequence[epath.Path]) -> pa.Array:
    genres: dict[str, list[str]] = {item: [] for item in items.table["item_id"].to_pylist()}
    for path in paths:
        for row in parsing.cells(path, "\t", ("item_id", "genre"), skip=1).table.to_pylist():
            genres.get(row["item_id"], []).append(row["genre"])
    return pa.array(genres.values(), pa.list_(pa.string()))
