"""Steam (cseweb.ucsd.edu/~jmcauley/datasets.html, "version 2"): reviews and games, one Python literal a line.

The folder holds, gzipped or not, `steam_reviews.json` (username, product_id, date, hours, ...) and `steam_games.json`
(id, app_name or title, genres, tags, developer, publisher, release_date, price: a number or a text such as
"Free To Play"). The lines are Python dictionaries, {u'username': u'Chaos Syren', ...}, not JSON. Reviews of a day keep
the order of the file. The user is the username: few reviews have a user id.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.data.sources.amazon_2023 import price

ROWS = 1 << 16  # reviews that are held as Python objects
ITEM_TYPES = {
    "item_id": pa.string(),
    "title": pa.string(),
    "genres": pa.list_(pa.string()),
    "tags": pa.list_(pa.string()),
    "specs": pa.list_(pa.string()),
    "developer": pa.string(),
    "publisher": pa.string(),
    "release_date": pa.string(),
    "price": pa.float64(),
}


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of reviews and games."""
    names = ("steam_reviews.json", "steam_games.json")
    return {name: [folders.one(folder, f"{subset}{name}", f"{subset}{name}.gz")] for name in names}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns reviews as interactions, and the reviewed games; the id stands in for a missing title."""
    reviews, games = (paths[0] for paths in files(folder, subset).values())
    log = parsing.without_repeats(_reviews(reviews))
    reviewed = dict.fromkeys(log.table["item_id"].unique().to_pylist())
    rows: dict[str, dict[str, Any]] = {}
    for _, game in parsing.objects(games, parsing.literal):
        item = str(game.get("id", ""))
        if item in reviewed and item not in rows:
            rows[item] = _game(item, game)
    missing = [item for item in reviewed if item not in rows]
    if missing:
        logging.warning("%d of %d games are not described: the id is their title", len(missing), len(reviewed))
    rows |= {item: {"item_id": item, "title": item} for item in missing}
    items = pa.Table.from_pylist(list(rows.values()), pa.schema(ITEM_TYPES))
    return reading.Tables(
        log, reading.SourceTable(items, str(games)), text_fields=("title", "genres", "tags", "developer")
    )


def _reviews(path: epath.Path) -> reading.SourceTable:
    schema = pa.schema(dict.fromkeys(("user_id", "item_id", "timestamp"), pa.string()))
    tables: list[pa.Table] = []
    rows: list[dict[str, str | None]] = []
    for number, review in parsing.objects(path, parsing.literal):
        try:
            cells = (review["username"], review["product_id"], review["date"])
            rows.append({name: _text(cell) for name, cell in zip(schema.names, cells, strict=True)})
        except KeyError as error:
            raise DataError(f"{path}, line {number}: has no {error}. Download the file again.") from error
        if len(rows) == ROWS:
            tables.append(pa.Table.from_pylist(rows, schema))
            rows = []
    found = reading.SourceTable(pa.concat_tables([*tables, pa.Table.from_pylist(rows, schema)]), str(path), "line")
    known = pc.and_(found.table["user_id"].is_valid(), found.table["item_id"].is_valid()).to_numpy()
    return parsing.said(parsing.keep(found, known), len(found), "without a user or a game")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _game(item: str, game: dict[str, Any]) -> dict[str, Any]:
    lists = {name: parsing.names(game.get(name)) for name in ("genres", "tags", "specs")}
    texts = {name: str(game[name]) if game.get(name) else None for name in ("developer", "publisher", "release_date")}
    title = str(game.get("app_name") or game.get("title") or item).strip() or item
    cost = game.get("price")
    free = isinstance(cost, str) and "free" in cost.lower()
    return {"item_id": item, "title": title, "price": 0.0 if free else price(cost), **texts, **lists}
