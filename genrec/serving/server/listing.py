"""Items as clients see them: their JSON, search by the beginning of words of titles, and the columns to filter by."""

import collections
import datetime
import functools
import json
import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data.dataset import Catalogue
from genrec.serving.queries import Recommendations
from genrec.serving.served_engine import ServedEngine
from genrec.serving.suggestions import values_of

INTERNAL = ("item_id", "source_row", "vector")  # columns that are no attributes
MOST_RENDERED = 200_000  # items whose JSON is kept
MOST_RECENT = 1000  # items that are searched one by one, until they are indexed
MOST_VALUES = 50  # of a column that are listed
LISTED_FROM = 100_000  # items of which the values are counted


class Listing:
    """The items of an engine as clients see them. For the event loop, but for `search` and `columns`."""

    def __init__(self, engine: ServedEngine):
        self._engine = engine
        self._rendered: dict[int, str] = {}
        self._indexed = _normalized(pa.array(engine.catalogue.titles, pa.string()))
        self._recent: dict[int, str] = {}  # by row, normalized

    @property
    def catalogue(self) -> Catalogue:
        """The items as they are now."""
        return self._engine.catalogue

    @functools.cached_property
    def columns_to_set(self) -> list[str]:
        """Names of the columns that changes of items may set."""
        return [name for name in self.catalogue.table.column_names if name not in INTERNAL]

    def row(self, item_id: str) -> int | None:
        """Returns the catalogue row of an item; None if there is none, or if it was removed."""
        row = self.catalogue.index.get(item_id)
        return None if row in self._engine.removed else row

    def rendered(self, row: int) -> str:
        """Returns the JSON of an item without its braces: item_id, title and attributes."""
        if (text := self._rendered.get(row)) is None:
            if len(self._rendered) >= MOST_RENDERED:
                self._rendered.clear()
            fields = {"item_id": self.catalogue.item_ids[row], "title": self.catalogue.titles[row]}
            text = self._rendered[row] = json.dumps({**fields, "attributes": self.attributes(row)})[1:-1]
        return text

    def attributes(self, row: int) -> dict[str, object]:
        """Returns the cells of an item that are not empty, by column; for JSON."""
        (cells,) = self.catalogue.table.slice(row, 1).to_pylist()
        return {
            name: cell if type(cell) in (str, int, bool) else _plain(cell)
            for name, cell in cells.items()
            if name not in INTERNAL and cell is not None
        }

    def ranked(self, found: Recommendations) -> str:
        """Returns the JSON of a list, with scores."""
        listed = zip(found.items.tolist(), found.scores.tolist(), strict=True)
        return "[" + ", ".join([f'{{{self.rendered(row)}, "score": {round(score, 5)}}}' for row, score in listed]) + "]"

    def changed(self, item_ids: Iterable[str]) -> None:
        """Takes note of items that were added or changed."""
        catalogue = self.catalogue
        for item_id in item_ids:
            row = catalogue.index[item_id]
            self._rendered.pop(row, None)
            self._recent[row] = _normalized(pa.array([catalogue.titles[row]]))[0].as_py()
        if len(self._recent) > MOST_RECENT:
            self._indexed = _normalized(pa.array(catalogue.titles, pa.string()))
            self._recent = {}

    def search(self, prefix: str, limit: int) -> list[int]:
        """Returns rows of items with a word of the title that begins with `prefix`, first those whose first word does.

        Case, accents and punctuation make no difference; a prefix may be of several words.
        """
        wanted = _normalized(pa.array([prefix]))[0].as_py().rstrip() or " "
        if prefix[-1:].isspace():
            wanted += " "
        indexed, recent, removed = self._indexed, dict(self._recent), self._engine.removed
        rows = np.flatnonzero(pc.match_substring(indexed, wanted).to_numpy(zero_copy_only=False))
        texts = indexed.take(pa.array(rows)).to_pylist()
        found = {row: text for row, text in zip(rows.tolist(), texts, strict=True) if row not in recent}
        found |= {row: text for row, text in recent.items() if wanted in text}
        kept = (row for row in found if row not in removed)
        return sorted(kept, key=lambda row: (not found[row].startswith(wanted), row))[:limit]

    @functools.cached_property
    def columns(self) -> list[dict[str, object]]:
        """The columns that filters may name: name, type, and the most frequent values; those of the start."""
        table = self.catalogue.table.slice(0, LISTED_FROM)
        names = [name for name in table.column_names if name not in INTERNAL]
        found = [(name, table[name].combine_chunks()) for name in names]
        return [_column(name, column) for name, column in found if _type_of(column.type)]


def _normalized(titles: pa.Array) -> pa.Array:
    """Returns the words of titles in lower case, without accents, a space before and after each."""
    parts = pc.utf8_normalize(titles, "NFKD")
    parts = pc.replace_substring_regex(parts, r"\pM+", "")
    words = pc.replace_substring_regex(pc.utf8_lower(parts), r"[^\pL\pN]+", " ")
    return pc.binary_join_element_wise("", pc.utf8_trim_whitespace(words), "", " ")


def _type_of(kind: pa.DataType) -> str:
    """Returns the type of a column for clients, empty if no filter may name it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "" if pa.types.is_nested(kind.value_type) or pa.types.is_floating(kind.value_type) else "list"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_temporal(kind):
        return "time"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""


def _column(name: str, column: pa.Array) -> dict[str, object]:
    kind, counts = _type_of(column.type), collections.Counter[object]()
    if kind == "list":
        column = pc.list_flatten(column)
    for pair in column.value_counts().to_pylist():
        value = pair["values"]
        if kind == "text":
            for part in values_of(value):
                counts[part] += pair["counts"]
        elif value is not None:
            counts[_plain(value)] += pair["counts"]
    if kind == "text" and 2 * len(counts) > len(column):
        counts.clear()  # most items have a text of their own, such as a title
    values = [{"value": value, "items": items} for value, items in counts.most_common(MOST_VALUES) if value is not None]
    return {"name": name, "type": kind, "values": values}


def _plain(value: object) -> object:
    """Returns a cell as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, str | int | bool) else str(value)
