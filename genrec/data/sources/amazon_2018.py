"""Amazon Reviews 2018 (cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2): one category, one JSON object a line.

The folder holds, gzipped or not,

* `<category>_5.json` (the 5-core) or `<category>.json`: reviews with reviewerID, asin, overall (the rating) and
  unixReviewTime, which is a day. Where both are there, the 5-core is read;
* `meta_<category>.json`: items with asin, title, brand, category, feature and description (lists of texts), and price,
  a text such as "$12.99", often empty or a piece of a page.

The published files repeat reviews and items; the first of each counts. Reviews of a day keep the order of the file.
"""

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec.data import reading
from genrec.data.sources import folders, parsing
from genrec.data.sources.amazon_2023 import price

TYPES = {"reviewerID": pa.string(), "asin": pa.string(), "overall": pa.float64(), "unixReviewTime": pa.int64()}
ITEM_TYPES = {
    "item_id": pa.string(),
    "title": pa.string(),
    "brand": pa.string(),
    "categories": pa.list_(pa.string()),
    "features": pa.list_(pa.string()),
    "description": pa.list_(pa.string()),
    "price": pa.float64(),
}
_TAG = re.compile(r"<[^>]*>")
_PAGE = ("var aPageStart", "getTime", "function(")  # where the crawler took a script for a text

TEXTS = ("title", "brand", "categories", "features", "description")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the reviews and of the metadata; raises `DataError` unless there is one of each."""
    meta = folders.one(folder, f"meta_{subset}*.json", f"meta_{subset}*.json.gz")
    category = meta.name.removeprefix("meta_").removesuffix(".gz").removesuffix(".json")
    core = folders.at_most_one(folder, f"{category}_5.json", f"{category}_5.json.gz")
    return {"reviews": core or [folders.one(folder, f"{category}.json", f"{category}.json.gz")], "items": [meta]}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with ratings, and the reviewed items; the ASIN stands in for a missing title."""
    paths = files(folder, subset)
    reviews = parsing.json_lines(paths["reviews"][0], TYPES)
    table = reviews.table
    columns = {
        "user_id": table["reviewerID"],
        "item_id": table["asin"],
        "timestamp": table["unixReviewTime"].cast(pa.timestamp("s", "UTC")),
        "rating": table["overall"],
    }
    interactions = parsing.without_repeats(parsing.with_columns(reviews, columns))
    reviewed = pc.unique(table["asin"].drop_null()).to_pylist()
    items = dict(_items(paths["items"][0], reviewed))
    catalogue = parsing.catalogue(items, reviewed, ITEM_TYPES, str(paths["items"][0]))
    return reading.Tables(interactions, catalogue, text_fields=TEXTS)


def _items(path: epath.Path, reviewed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item, row in parsing.first_of(path, "asin", reviewed):
        lists = {
            name: [text for text in map(_plain, parsing.names(row.get(field))) if text]
            for name, field in (("categories", "category"), ("features", "feature"), ("description", "description"))
        }
        title, brand = _plain(row.get("title")) or item, _plain(row.get("brand"))
        yield item, {"item_id": item, "title": title, "brand": brand, "price": price(row.get("price")), **lists}


def _plain(text: Any) -> str | None:
    """Returns a text without the tags and entities of HTML; None for what is no text, or a script of the page."""
    if not isinstance(text, str) or any(mark in text for mark in _PAGE):
        return None
    return html.unescape(_TAG.sub(" ", text)).strip() or None
