"""Changes of the catalogue of a bundle while it is served: items are added, changed and removed.

A new item gets a vector from its texts or as given, and codes under the frozen codebooks, as in
`genrec.semantic_ids.growth`. Removed items keep their row and their codes: histories may have them.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.decoding.sorted_table import CatalogueError
from genrec.errors import cut, shown
from genrec.semantic_ids.codes import FreeCodes

KINDS = ("add", "change", "remove")
NEIGHBORS = 10  # old items whose mean behavior replaces that of a new one, as in `semantic_ids.growth`
OWN_COLUMNS = ("item_id", "source_row", "vector")  # which are no fields of a change

# float32[1, width] -> learned codes int32[levels], squared distances float32[codes of the last one]
Quantize = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ItemChange:
    """A change of the catalogue: an item that is added, whose fields are changed, or that is removed."""

    kind: Literal["add", "change", "remove"]
    item_id: str
    fields: Mapping[str, object] = dataclasses.field(default_factory=dict)  # column -> value; None is an empty cell
    vector: Sequence[float] | None = None  # of a new item, in place of its texts

    def as_json(self) -> str:
        """Returns a line of JSON."""
        vector = None if self.vector is None else list(self.vector)
        return json.dumps({**dataclasses.asdict(self), "vector": vector}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "ItemChange":
        """Returns the change that `as_json` wrote; raises CatalogueError for anything else."""
        try:
            change = ItemChange(**json.loads(text))
        except (ValueError, TypeError) as problem:
            raise CatalogueError(f"{shown(text)} is no change of an item ({cut(str(problem))})") from problem
        return change.checked()

    def checked(self) -> "ItemChange":
        """Returns the change itself; raises CatalogueError if its kind or the types of its parts are wrong."""
        if self.kind not in KINDS:
            raise CatalogueError(
                f"change of item {shown(self.item_id)}: kind is {shown(self.kind)}, not add, change or remove"
            )
        if not isinstance(self.item_id, str) or not self.item_id:
            raise CatalogueError(f"change of an item: item_id is {shown(self.item_id)}, not a text")
        if not isinstance(self.fields, Mapping) or any(not isinstance(name, str) for name in self.fields):
            raise CatalogueError(f"item {shown(self.item_id)}: fields is {shown(self.fields)}, not values by column")
        if self.vector is not None and self.kind != "add":
            raise CatalogueError(
                f"item {shown(self.item_id)}: a vector is for a new item, whose codes are learned from it"
            )
        return self


@dataclasses.dataclass(frozen=True)
class Grown:
    """The catalogue after some changes, and what they change in the index."""

    catalogue: Catalogue
    removed: frozenset[int]  # rows of all removed items
    add: np.ndarray  # int64[n], rows that become eligible
    remove: np.ndarray  # int64[m], rows that are no more
    codes: np.ndarray  # uint16[new rows, levels]
    vectors: np.ndarray  # float32[new rows, width]


class ServedCatalogue:
    """The rows of a catalogue that changes, and the codes of new items."""

    def __init__(
        self,
        catalogue: Catalogue,
        codes: np.ndarray,
        sizes: Sequence[int],
        capacity: int,
        settings: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        quantize: Quantize | None,
    ):
        """`settings`, `arrays` and `quantize` are those of `semantic_ids.codes.FrozenCodebooks`; None without them."""
        self.catalogue, self.removed, self._capacity = catalogue, frozenset[int](), capacity
        self._free, self._quantize = FreeCodes(codes, sizes), quantize
        self._vectors = NewItemVectors(settings, arrays) if quantize is not None else None
        self._levels = len(sizes)

    def changed(self, changes: Sequence[ItemChange]) -> Grown:
        """Returns the catalogue after changes, which are kept by `use`.

        Raises CatalogueError, or SemanticIdError where no code is free, and changes nothing then.
        """
        rows: dict[str, int] = {}
        cells: dict[int, dict[str, object]] = {}
        new: dict[int, ItemChange] = {}  # by row, in ascending order
        removed, count = set(self.removed), len(self.catalogue)
        self._check_fields(changes)
        for change in changes:
            item_id = change.item_id
            row = rows.get(item_id, self.catalogue.index.get(item_id))
            there = row is not None and row not in removed
            if change.kind == "add":
                if there:
                    raise CatalogueError(f"item {shown(item_id)} is in the catalogue already: change it instead")
                if row is None:
                    row, count = count, count + 1
                    new[row] = change
                cells[row] = {**dict.fromkeys(self._fields), "item_id": item_id}  # empty also where it comes back
                removed.discard(row)
            elif not there or row is None:
                raise CatalogueError(f"item {shown(item_id)} is not in the catalogue: cannot {change.kind} it")
            rows[item_id] = row
            if change.kind == "remove":
                removed.add(row)
            else:
                cells.setdefault(row, {}).update(change.fields)
        if count > self._capacity:
            raise CatalogueError(
                f"{count:,} items, removed ones included, exceed the {self._capacity:,} that the bundle has numbers "
                "for: export it again"
            )
        if len(removed) == count:
            raise CatalogueError("the catalogue would be empty: keep at least one item")
        catalogue = self._with_cells(cells, count)
        found = self._codes_of(list(new.values()))
        kept = [row for row in new if row not in removed]
        back = [row for row in self.removed if row not in removed]
        gone = [row for row in removed if row not in self.removed and row < len(self.catalogue)]
        add, remove = (np.array(sorted(rows), np.int64) for rows in (kept + back, gone))
        return Grown(catalogue, frozenset(removed), add, remove, *found)

    def check(self, change: ItemChange) -> None:
        """Raises CatalogueError for a change that this catalogue never takes: of other columns, types, or vectors."""
        self._check_fields([change])
        if change.kind == "add" and change.item_id not in self.catalogue.index:
            self._new_vectors([change])

    def use(self, grown: Grown) -> None:
        """Keeps changes."""
        self.catalogue, self.removed = grown.catalogue, grown.removed

    def discard(self, grown: Grown) -> None:
        """Makes the codes free that changes took, which are not kept."""
        for codes in grown.codes.tolist():
            self._free.release(codes)

    @property
    def _fields(self) -> list[str]:
        return [name for name in self.catalogue.table.column_names if name not in OWN_COLUMNS]

    def _check_fields(self, changes: Sequence[ItemChange]) -> None:
        """Raises CatalogueError for a column that the catalogue does not have, or a value that does not suit it."""
        known, cells = self._fields, collections.defaultdict[str, list[tuple[str, object]]](list)
        for change in changes:
            for name, value in change.checked().fields.items():
                if name not in known:
                    raise CatalogueError(
                        f"item {shown(change.item_id)}: the catalogue has no column {shown(name)} to set; it has "
                        f"{cut(', '.join(known))}"
                    )
                cells[name].append((change.item_id, value))
        for name, of_column in cells.items():
            _column(self.catalogue.table.schema.field(name), of_column)

    def _with_cells(self, cells: Mapping[int, Mapping[str, object]], count: int) -> Catalogue:
        """Returns the catalogue with the cells of some rows replaced, and with new rows at its end."""
        table, changed = self.catalogue.table, sorted(cells)
        old = [row for row in changed if row < len(self.catalogue)]
        before = table.take(pa.array(old, pa.int64())).to_pylist() if old else []
        values = [{**(before[place] if place < len(old) else {}), **cells[row]} for place, row in enumerate(changed)]
        columns = [
            _column(field, [(str(one["item_id"]), one.get(field.name)) for one in values]) for field in table.schema
        ]
        order = np.arange(count)
        order[changed] = len(table) + np.arange(len(changed))
        both = pa.concat_tables([table, pa.table(columns, schema=table.schema)])
        return Catalogue(both.take(pa.array(order)).combine_chunks(), self.catalogue.text_fields)

    def _codes_of(self, new: Sequence[ItemChange]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the codes uint16[new, levels] and vectors float32[new, width] of new items.

        They are those of the item as it was added, whatever later changes do: all servers give the same codes, however
        many changes each applies at once.
        """
        if not new:
            return np.zeros((0, self._levels), np.uint16), np.zeros((0, 0), np.float32)
        vectors = self._new_vectors(new)
        assert self._quantize is not None  # else there are no vectors
        found: list[tuple[int, ...]] = []
        try:
            for vector in vectors:
                learned, distances = self._quantize(vector[None])
                nearest = np.argsort(distances, kind="stable").tolist()
                found.append(self._free.take(np.asarray(learned).tolist(), functools.partial(list, nearest))[0])
        except BaseException:
            for codes in found:
                self._free.release(codes)
            raise
        return np.array(found, np.uint16), vectors

    def _new_vectors(self, new: Sequence[ItemChange]) -> np.ndarray:
        """Returns float32[new, width], the vectors of new items."""
        if self._vectors is None:
            raise CatalogueError(
                "this bundle cannot give codes to new items: its semantic IDs were not learned from texts or vectors "
                "(docs/serving.md). Items can be changed and removed"
            )
        columns = [
            _column(field, [(one.item_id, {"item_id": one.item_id, **one.fields}.get(field.name)) for one in new])
            for field in self.catalogue.table.schema
        ]
        items = Catalogue(pa.table(columns, schema=self.catalogue.table.schema), self.catalogue.text_fields)
        return self._vectors.of(items, [one.vector for one in new])


def _column(field: pa.Field, cells: Sequence[tuple[str, object]]) -> pa.Array:
    """Returns cells, with the ids of their items, as a column; raises CatalogueError if one is of another type."""
    values = [value for _, value in cells]
    if not (pa.types.is_temporal(field.type) and any(isinstance(value, str) for value in values)):
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            return pa.array(values, field.type)
    return pa.array([_cell(item_id, field.name, value, field.type) for item_id, value in cells], field.type)


def _cell(item_id: object, name: str, value: object, kind: pa.DataType) -> object:
    """Returns a value as a cell of a column; raises CatalogueError if it is of another type.

    Dates and times are text, as JSON has them: 2020-10-03.
    """
    try:
        dated = isinstance(value, str) and pa.types.is_temporal(kind)
        (cell,) = (pa.array([value]).cast(kind) if dated else pa.array([value], kind)).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        raise CatalogueError(
            f"item {shown(item_id)}: {name} is {shown(value)}, but the column has cells of type {kind}"
        ) from problem
    return cell


class NewItemVectors:
    """Embeds new items as `semantic_ids.growth.embed_new` does."""

    def __init__(self, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]):
        self._source, self._width = settings["source"], settings["content_width"]
        self._old = arrays.get("vectors")
        if self._source == "tfidf":
            terms = arrays["terms"].tobytes().decode().split("\n")
            self._terms = {term: place for place, term in enumerate(terms)}
            self._idf, self._components = arrays["idf"], arrays["components"]

    def of(self, items: Catalogue, given: Sequence[Sequence[float] | None]) -> np.ndarray:
        """Returns float32[items, width] of new items, from vectors where they are given, else from their texts."""
        rows = [
            self._of_text(text) if vector is None else self._checked(item_id, vector)
            for item_id, text, vector in zip(items.item_ids, self._texts(items, given), given, strict=True)
        ]
        given_rows = np.array(rows, np.float32)
        lengths = np.linalg.norm(given_rows, axis=1, keepdims=True)
        content = (given_rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return content if self._old is None else np.concatenate([content, self._behavior(content)], axis=1)

    def _texts(self, items: Catalogue, given: Sequence[Sequence[float] | None]) -> list[str]:
        missing = [item for item, vector in zip(items.item_ids, given, strict=True) if vector is None]
        if missing and self._source != "tfidf":
            raise CatalogueError(
                f"item {shown(missing[0])} has no vector: items of this catalogue were embedded by "
                f"{self._source}, so give its vector of {self._width} numbers, by the same encoder"
            )
        return items.texts

    def _checked(self, item_id: str, vector: Sequence[float]) -> np.ndarray:
        try:
            found = np.asarray(vector, np.float32)
        except (TypeError, ValueError, OverflowError):  # the last of whole numbers beyond all floats
            found = np.zeros(0, np.float32)
        if found.shape != (self._width,) or not np.isfinite(found).all():
            raise CatalogueError(f"item {shown(item_id)}: its vector must be {self._width} finite numbers")
        return found

    def _of_text(self, text: str) -> np.ndarray:
        """Returns float32[width]: TF-IDF of a text, by the terms of the old ones, projected as they were."""
        words = re.findall(r"\b\w\w+\b", _without_accents(text.lower()))
        pairs = (f"{one} {other}" for one, other in itertools.pairwise(words))
        counts = collections.Counter(term for term in (*words, *pairs) if term in self._terms)
        places = np.array([self._terms[term] for term in counts], np.int64)
        weights = (np.log(np.array(list(counts.values()), np.float32)) + 1) * self._idf[places]
        weights /= max(float(np.linalg.norm(weights)), 1e-12)
        return self._components[:, places] @ weights

    def _behavior(self, content: np.ndarray) -> np.ndarray:
        """Returns float32[items, behavior width]: the mean behavior of the old items of most similar content."""
        assert self._old is not None  # checked by the caller
        old, behavior = self._old[:, : self._width], self._old[:, self._width :]
        cosines = content @ (old / np.maximum(np.linalg.norm(old, axis=1, keepdims=True), 1e-12)).T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBORS]
        weights = np.maximum(np.take_along_axis(cosines, nearest, axis=1), 1e-6)[..., None]
        mean = (weights * behavior[nearest]).sum(axis=1) / weights.sum(axis=1)
        lengths = np.linalg.norm(behavior[nearest], axis=2).mean(axis=1, keepdims=True)
        mean *= lengths / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        return mean.astype(np.float32)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character))
