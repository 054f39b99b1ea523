"""Amazon Reviews 2023 (amazon-reviews-2023.github.io): reviews of one category, as JSON Lines or as CSV.

The folder holds, gzipped or not,

* `<category>.jsonl`: one review a line, with user_id, parent_asin, rating and timestamp (Unix milliseconds); or the
  rating-only CSV, `<category>.csv` with the columns user_id, parent_asin, rating, timestamp, or the same in
  `<category>.train.csv`, `.valid.csv` and `.test.csv`. Where both are there, the CSV is read: it is the 5-core;
* `meta_<category>.jsonl`: one item a line, with parent_asin, title, store, price (a number, null or text), categories,
  features and description (lists of texts).

The variants of a product (asin) share a parent_asin, which is the item here.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from etils import epath

from genrec.data import reading
from genrec.data.sources import folders, parsing

TYPES = {"user_id": pa.string(), "parent_asin": pa.string(), "rating": pa.float64(), "timestamp": pa.int64()}
ITEM_TYPES = {
    "item_id": pa.string(),
    "title": pa.string(),
    "store": pa.string(),
    "main_category": pa.string(),
    "categories": pa.list_(pa.string()),
    "features": pa.list_(pa.string()),
    "description": pa.list_(pa.string()),
    "price": pa.float64(),
}
TEXTS = ("title", "store", "categories", "features", "description")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the files of the reviews and, where it is there, of the metadata."""
    csv = folders.find(folder, f"{subset}*.csv", f"{subset}*.csv.gz")
    jsonl = [
        path
        for path in folders.find(folder, f"{subset}*.jsonl", f"{subset}*.jsonl.gz")
        if not path.name.startswith("meta_")
    ]
    categories = {path.name.split(".")[0] for path in csv or jsonl}
    if len(categories) != 1 or (not csv and len(jsonl) != 1):
        raise folders.unexpected(folder, "the reviews of one category, CATEGORY.jsonl or CATEGORY.csv", csv or jsonl)
    category = categories.pop()
    if csv and jsonl:
        logging.info("%s: read instead of the reviews in %s", csv[0].name, jsonl[0].name)
    meta = folders.at_most_one(folder, f"meta_{category}.jsonl", f"meta_{category}.jsonl.gz")
    if not meta:
        logging.warning("%s: no meta_%s.jsonl: items have no texts but their ASIN", folder, category)
    order = {"train": 0, "valid": 1, "test": 2}
    return {"reviews": sorted(csv, key=lambda path: order.get(path.name.split(".")[1], 3)) or jsonl, "items": meta}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with ratings, and the reviewed items; the ASIN stands in for a missing title."""
    paths = files(folder, subset)
    is_csv = ".csv" in paths["reviews"][0].name
    parts = [parsing.csv(path, TYPES) if is_csv else parsing.json_lines(path, TYPES) for path in paths["reviews"]]
    reviews = parsing.joined(parts, f"{folder}")
    table = reviews.table
    columns = {
        "user_id": table["user_id"],
        "item_id": table["parent_asin"],
        "timestamp": parsing.milliseconds(table["timestamp"]),
        "rating": table["rating"],
    }
    interactions = parsing.without_repeats(parsing.with_columns(reviews, columns))
    reviewed = pc.unique(table["parent_asin"].drop_null()).to_pylist()
    items = dict(_items(paths["items"][0], reviewed)) if paths["items"] else {}
    catalogue = parsing.catalogue(items, reviewed, ITEM_TYPES, f"{(paths['items'] or [folder])[0]}")
    return reading.Tables(interactions, catalogue, text_fields=TEXTS)


def _items(path: epath.Path, reviewed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item, row in parsing.first_of(path, "parent_asin", reviewed):
        lists = {name: parsing.names(row.get(name)) for name in ("categories", "features", "description")}
        texts = {name: _text(row.get(name)) for name in ("store", "main_category")}
        title = _text(row.get("title")) or item
        yield item, {"item_id": item, "title": title, "price": price(row.get("price")), **texts, **lists}


def _text(value: Any) -> str | None:
    """Returns a text; None for what stands for a missing one."""
    return value.strip() or None if isinstance(value, str) and value.strip() != "None" else None


def price(value: Any) -> float | None:
    """Returns a price from a number or a text such as "$12.99", "from 12.99" or "1,299.00"; None if it has no number.

    Of a range, "$5.99 - $9.99", the lower one; None where the text is long, such as a style sheet.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    words = str(value).replace("$", " ").split()
    for word in words if len(words) <= 8 else []:
        try:
            number = float(word.replace(",", ""))
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
