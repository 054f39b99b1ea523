"""Metrics by segment of users: history length, popularity of the target, attributes of the target and of the user.

The popularity of an item is its number of training interactions; 0 is an item that training does not have.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec import tables
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.filters import SEPARATOR
from genrec.evaluation import metrics

HISTORY = "history length"
POPULARITY = "item popularity"
NEW = "new to the model"
LEAST = (0, 1, 2, 3, 5, 10, 20, 50, 100, 1000)  # lower bounds of the ranges of lengths and of popularities
FEW_VALUES = 12  # columns of at most this many values make segments without being named
MOST_VALUES = 20  # segments of a named column; its less frequent values are one segment
NUMBER = re.compile(r"((?P<below><|under|below|up to)|>|over|above)?\s*(?P<number>\d+(\.\d+)?)", re.IGNORECASE)
OTHER, UNKNOWN = "(other)", "(unknown)"

NAMES = ("item_id", "user_id", "title")  # columns that identify rows, and make no segments unless they are named

Segmentation = dict[str, np.ndarray]  # name of a segment -> bool[users]


def find(
    dataset: Dataset,
    user_ids: Sequence[str] | pa.Array,
    targets: np.ndarray,
    history_lengths: np.ndarray,
    popularity: np.ndarray,
    columns: Sequence[str] = (),
    new_items: np.ndarray | None = None,
) -> dict[str, Segmentation]:
    """Returns all segmentations of the users of a split; segments without users are left out.

    Args:
      dataset: has the attributes of items and users.
      user_ids: of the split, in its order.
      targets: int[users], catalogue rows.
      history_lengths: int[users], items before the target.
      popularity: int[items], training interactions.
      columns: of the catalogue or of the users, besides those that have few values anyway.
      new_items: bool[items], True for items that were added after the model was trained.

    Returns:
      "history length", "item popularity", "new to the model" if there are new items, and columns by name. A cell of
      several values (genrec.data.filters) puts a user into the segment of each.

    Raises:
      DataError: for one of `columns` that neither the catalogue nor the users have.
    """
    check(dataset, columns)
    found = {
        HISTORY: by_range(np.asarray(history_lengths)),
        POPULARITY: by_range(popularity[targets]),
    }
    tables = {"items": dataset.catalogue.table, "users": dataset.users}
    if new_items is not None:
        found[NEW] = {name: of for name, of in (("new", new_items[targets]), ("old", ~new_items[targets])) if of.any()}
    rows = {"items": pa.array(targets), "users": _user_rows(dataset.users, user_ids)}
    for kind, table in tables.items():
        for name in [] if table is None else table.column_names:
            if name not in columns and (name in NAMES or not _has_few_values(table[name])):
                continue
            label = f"user's {name}" if kind == "users" and name in dataset.catalogue.table.column_names else name
            found[label] = by_value(table[name].combine_chunks().take(rows[kind]))
    return {name: segmentation for name, segmentation in found.items() if segmentation}


def check(dataset: Dataset, columns: Sequence[str]) -> None:
    """Raises DataError for one of `columns` that neither the catalogue nor the users have."""
    tables = [table for table in (dataset.catalogue.table, dataset.users) if table is not None]
    known = {name for table in tables for name in table.column_names}
    for name in columns:
        if name not in known:
            raise DataError(
                f"evaluation.segments: there is no column {name!r}. Items and users have {', '.join(sorted(known))}."
            )


def by_range(numbers: np.ndarray) -> Segmentation:
    """Returns segments of users whose number, int[users] of at least 0, lies in the same range: "3-4" is 3 or 4."""
    places = np.searchsorted(LEAST, numbers, side="right") - 1
    ends = [*(following - 1 for following in LEAST[1:]), None]
    names = [
        f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"
        for first, last in zip(LEAST, ends, strict=True)
    ]
    return {names[place]: places == place for place in np.unique(places)}


def by_value(cells: pa.Array) -> Segmentation:
    """Returns segments of users whose cell has the same value; empty cells come last.

    Values that all start with a number, such as age bands, come in its order, others with the most users first.
    """
    users = len(cells)
    if pa.types.is_nested(cells.type):
        rows, values = pc.list_parent_indices(cells), pc.list_flatten(cells).cast(pa.string())
    elif pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        parts = pc.split_pattern(cells.cast(pa.string()), SEPARATOR)
        rows, values = pc.list_parent_indices(parts), pc.utf8_trim_whitespace(pc.list_flatten(parts))
    else:
        rows, values = pa.array(np.flatnonzero(cells.is_valid())), cells.drop_null().cast(pa.string())
    counted = sorted((-count["counts"], count["values"]) for count in pc.value_counts(values).to_pylist())
    frequent = _in_order([value for _, value in counted if value][:MOST_VALUES])
    rows, places = np.asarray(rows), np.asarray(pc.index_in(values, pa.array(frequent, pa.string())).fill_null(-1))
    empty = np.asarray(pc.equal(values, "").fill_null(True))
    found = {value: _members(rows[places == place], users) for place, value in enumerate(frequent)}
    found[OTHER] = _members(rows[(places < 0) & ~empty], users)
    found[UNKNOWN] = ~np.logical_or.reduce([*found.values(), np.zeros(users, bool)])
    return {name: members for name, members in found.items() if members.any()}


def measure(
    segmentations: Mapping[str, Segmentation], ranks: Mapping[str, np.ndarray], cutoffs: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Returns for each segmentation a row per segment: its name, `users`, and the metrics of each model by its name.

    `ranks` are int[users] of each model.
    """
    return {
        name: [
            {
                "segment": segment,
                "users": int(members.sum()),
                **{model: metrics.compute(of_model[members], cutoffs) for model, of_model in ranks.items()},
            }
            for segment, members in segmentation.items()
        ]
        for name, segmentation in segmentations.items()
    }


def table(measured: Mapping[str, list[dict[str, Any]]], models: Sequence[str], metric: str) -> str:
    """Returns plain text with one line per segment: its users and one metric of every model."""
    lines: list[list[object]] = []
    for name, rows in measured.items():
        lines += [[], [f"{name}, {metric}", "users", *models]]
        lines += [[str(row["segment"]), row["users"], *(row[model][metric] for model in models)] for row in rows]
    return tables.text(lines[1:])


def _in_order(values: list[str]) -> list[str]:
    """Returns values that all start with a number, maybe after a sign such as < or "under", sorted by it.

    For example ("25-34", "50+", "<18", "18-24") is ("<18", "18-24", "25-34", "50+"). Others are returned as they are.
    """
    found = [NUMBER.match(value) for value in values]
    numbers = {value: (float(m["number"]), not m["below"], value) for value, m in zip(values, found, strict=True) if m}
    return sorted(values, key=numbers.__getitem__) if len(numbers) == len(values) else values


def _has_few_values(column: pa.ChunkedArray) -> bool:
    """Returns True for a categorical column: strings or booleans, of at least two and at most FEW_VALUES values."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)):
        return False
    return 2 <= len(column.unique().drop_null()) <= FEW_VALUES


def _user_rows(users: pa.Table | None, user_ids: Sequence[str] | pa.Array) -> pa.Array | None:
    if users is None:
        return None
    return pc.index_in(pa.array(user_ids, pa.large_string()), users["user_id"].cast(pa.large_string()))


def _members(rows: np.ndarray, users: int) -> np.ndarray:
    found = np.zeros(users, bool)
    found[rows] = True
    return found
