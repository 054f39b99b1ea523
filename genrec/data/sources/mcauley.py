"""Adapter for McAuley's Amazon reviews of 2014 in their original files (jmcauley.ucsd.edu/data/amazon, "5-core").

The folder holds one category:

* `reviews_<category>_5.json.gz`: one JSON object per line, with reviewerID, asin, overall (the rating), unixReviewTime;
* `meta_<category>.json.gz`: one *Python dictionary literal* per line (single quotes: not JSON), with asin and, where
  known, title, brand, price, categories (a list of paths), description, imUrl, related, salesRank.

As in the published benchmarks, reviews on the same day keep the order of the file.
"""

import ast
import gzip
import json
from collections.abc import Iterator

import pyarrow as pa
from absl import logging
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders
from genrec.errors import cut
from genrec.progress import progress


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the category's files {"reviews": ..., "meta": ...}; raises `DataError` unless there is one of each."""
    patterns = {"reviews": f"reviews_{subset}*_5.json.gz", "meta": f"meta_{subset}*.json.gz"}
    return {role: [folders.one(folder, pattern)] for role, pattern in patterns.items()}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with ratings, and the reviewed items in the order of the metadata.

    Items have text columns `title`, `brand`, `categories`, `price` and `description`. The ASIN stands in for a missing
    title; items without metadata have no other text.
    """
    reviews, meta = (paths[0] for paths in files(folder, subset).values())
    interactions = _reviews(reviews)
    items = _metadata(meta, set(interactions["item_id"]))
    return reading.Tables(
        reading.from_columns(interactions, str(reviews)),
        reading.from_columns(items, str(meta)),
        text_fields=("title", "brand", "categories", "description"),
    )


def _lines(path: epath.Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as file:
        for number, line in enumerate(progress(file, f"reading {path.name}"), start=1):
            if line.strip():
                yield number, line


def _reviews(path: epath.Path) -> dict[str, list]:
    """Returns the columns of the interactions, without repetitions of user, item and time."""
    columns: dict[str, list] = {"user_id": [], "item_id": [], "timestamp": [], "rating": []}
    seen = set()
    repeated = 0
    for number, line in _lines(path):
        try:
            review = json.loads(line)
            ids = str(review["reviewerID"]), str(review["asin"])
            if None in (review["reviewerID"], review["asin"]):
                raise ValueError("null as an id")
            row = (*ids, int(review["unixReviewTime"]), float(review["overall"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: not a review with reviewerID, asin, unixReviewTime and overall "
                f"({type(error).__name__}: {cut(str(error))}). Download the file again."
            ) from error
        if row[:3] in seen:
            repeated += 1
            continue
        seen.add(row[:3])
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
    if repeated:
        logging.info("%s: dropped %d repeated reviews", path.name, repeated)
    return columns


def _metadata(path: epath.Path, reviewed: set[str]) -> dict[str, pa.Array]:
    """Returns the columns of the reviewed items."""
    names = ("item_id", "title", "brand", "categories", "price", "description")
    rows: dict[str, tuple[str, ...]] = {}
    for number, line in _lines(path):
        try:
            item = ast.literal_eval(line)
            asin = str(item["asin"])
        except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: not a Python dictionary with an asin "
                f"({type(error).__name__}: {cut(str(error))}). Download the file again."
            ) from error
        if asin in reviewed and asin not in rows:
            title = str(item.get("title") or "").strip() or asin
            brand, price, description = (_text(item, key) for key in ("brand", "price", "description"))
            rows[asin] = (asin, title, brand, _categories(item), price, description)
    for asin in sorted(reviewed - rows.keys()):
        rows[asin] = (asin, asin, "", "", "", "")
    columns = zip(*rows.values(), strict=True)
    return {name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)}


def _text(item: dict, key: str) -> str:
    value = item.get(key)
    return "" if value is None else str(value).strip()


def _categories(item: dict) -> str:
    """Returns the distinct names on all paths: [["Beauty", "Hair"], ["Beauty", "Gifts"]] -> "Beauty, Hair, Gifts"."""
    return ", ".join(dict.fromkeys(name for path in item.get("categories") or [] for name in path))
