"""MovieLens (grouplens.org/datasets/movielens) in each of its layouts, as unpacked.

* 100K: `u.data` (user, item, rating, Unix seconds, between tabs), `u.item` and `u.user` (between "|", Latin-1);
* 1M and 10M: `ratings.dat`, `movies.dat` and, of 1M, `users.dat` (between "::"; of 1M Latin-1);
* 20M, 25M, 32M, latest: `ratings.csv` (userId, movieId, rating, timestamp) and `movies.csv` (movieId, title, genres).

Tags, links and the genome are not read. Users rated many films within seconds: ties keep the order of the file.
"""

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.sources import folders, parsing

ENCODINGS = ("utf-8", "latin-1")
LOG = ("user_id", "item_id", "rating", "timestamp")
GENRES = (  # the flags of u.item, in order
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")
AGES = {
    "1": "under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56+",
}
OCCUPATIONS = (  # of 1M, by number
    "other|academic/educator|artist|clerical/admin|college/grad student|customer service|doctor/health care|"
    "executive/managerial|farmer|homemaker|K-12 student|lawyer|programmer|retired|sales/marketing|scientist|"
    "self-employed|technician/engineer|tradesman/craftsman|unemployed|writer"
).split("|")
LAYOUTS = (
    {"log": "u.data", "items": "u.item", "users": "u.user"},
    {"log": "ratings.dat", "items": "movies.dat", "users": "users.dat"},
    {"log": "ratings.csv", "items": "movies.csv"},
)


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the log, the items and, where they are there, the users."""
    prefix = f"{subset}*/" if subset else ""
    logs = [layout["log"] for layout in LAYOUTS]
    layouts = [layout for layout in LAYOUTS if folders.find(folder, prefix + layout["log"])]
    if len(layouts) != 1:
        found = folders.find(folder, *(prefix + log for log in logs))
        raise folders.unexpected(folder, f"one of {', '.join(logs)}", found)
    paths = {role: folders.at_most_one(folder, prefix + name) for role, name in layouts[0].items()}
    return paths | {"items": [folders.one(folder, prefix + layouts[0]["items"])]}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with ratings, items with `title`, `year` and the list `genres`, and users of 100K and 1M."""
    paths = {role: found[0] for role, found in files(folder, subset).items() if found}
    match paths["log"].name:
        case "u.data":
            log = parsing.cells(paths["log"], "\t", LOG)
            items, users = _items_100k(paths["items"]), _users_100k(paths.get("users"))
        case "ratings.dat":
            log = parsing.cells(paths["log"], "::", LOG)
            items, users = _items(parsing.cells(paths["items"], "::", _ITEM, encodings=ENCODINGS)), _users(paths)
        case _:
            types = {"userId": pa.string(), "movieId": pa.string(), "rating": pa.string(), "timestamp": pa.string()}
            log = parsing.csv(paths["log"], types)
            log = parsing.with_columns(log, dict(zip(LOG, log.table.columns, strict=True)))
            items, users = _items(parsing.csv(paths["items"], dict.fromkeys(_ITEM, pa.string()))), None
    texts = ("title", "genres")
    return reading.Tables(log, parsing.described(items, log, texts), users, text_fields=texts)


_ITEM = ("movieId", "title", "genres")


def _items(source: reading.SourceTable) -> reading.SourceTable:
    table = source.table
    genres = pc.split_pattern(pc.if_else(pc.equal(table["genres"], "(no genres listed)"), "", table["genres"]), "|")
    return parsing.with_columns(source, _described(table["movieId"], table["title"], genres))


def _described(item_id: pa.ChunkedArray, title: pa.ChunkedArray, genres: pa.ChunkedArray) -> dict[str, object]:
    """Returns the columns of items; the year ends the title: "Toy Story (1995)"."""
    year = pc.struct_field(pc.extract_regex(title, r"\((?P<year>[0-9]{4})\)\s*$"), "year")
    return {
        "item_id": item_id,
        "title": pc.utf8_trim_whitespace(title),
        "genres": pa.array([[name for name in row if name] for row in genres.to_pylist()], pa.list_(pa.string())),
        "year": year.cast(pa.int32()),
    }


def _items_100k(path: epath.Path) -> reading.SourceTable:
    columns = ("item_id", "title", "released", "video", "url", *GENRES)
    source = parsing.cells(path, "|", columns, encodings=ENCODINGS)
    flags = [source.table[name].to_pylist() for name in GENRES]
    genres = [
        [name for name, flag in zip(GENRES, row, strict=True) if flag.strip() == "1" and name != "unknown"]
        for row in zip(*flags, strict=True)
    ]
    table = source.table
    return parsing.with_columns(source, _described(table["item_id"], table["title"], pa.chunked_array([genres])))


def _users_100k(path: epath.Path | None) -> reading.SourceTable | None:
    if path is None:
        return None
    source = parsing.cells(path, "|", ("user_id", "age", "gender", "occupation", "zip_code"), encodings=ENCODINGS)
    age = source.table["age"].cast(pa.int32())
    return parsing.with_columns(source, dict(zip(source.table.column_names, source.table, strict=True)) | {"age": age})


def _users(paths: dict[str, epath.Path]) -> reading.SourceTable | None:
    if "users" not in paths:
        return None
    source = parsing.cells(
        paths["users"], "::", ("user_id", "gender", "age", "occupation", "zip_code"), encodings=ENCODINGS
    )
    table = source.table
    named = {str(number): name for number, name in enumerate(OCCUPATIONS)}
    columns = {
        "user_id": table["user_id"],
        "gender": table["gender"],
        "age": pa.array([AGES.get(age, age) for age in table["age"].to_pylist()]),
        "occupation": pa.array([named.get(job, job) for job in table["occupation"].to_pylist()]),
        "zip_code": table["zip_code"],
    }
    return parsing.with_columns(source, columns)
