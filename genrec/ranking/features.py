"""Ranking features of candidates: popularity, transitions, similarity to the history, lift of attributes by context.

All features are logarithms or similarities, so that a weighted sum of them is a log-linear model (see `scoring`).
Popularity and lift are counted in the training split; the features of the history change with every new event.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data import cells
from genrec.data.dataset import Catalogue, Dataset
from genrec.data.errors import DataError
from genrec.input_pipeline.transitions import Transitions
from genrec.ranking.lists import read_chunks

RECENT = 10  # last items of a history that similarities are computed with
DECAY = 0.8  # weight of an item of the history, relative to the one after it
PRIOR = 20.0  # pseudo-counts: interactions with the overall distribution, added to those of each context
# Names of features
CONTENT, LAST_CONTENT, TRANSITIONS = "content of the history", "content of the last item", "transitions"
LATER = 2**31  # number of the first value of an item column that training did not see


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """Inputs of the features of candidates, counted once in a training split by `count`.

    Without `content` there are no content similarities, without `transitions` no probabilities by them. Items that came
    after the training have the popularity of items without interactions, and no probability by transitions.
    """

    popularity: np.ndarray  # float32[items + 1], logarithms of shares; the last is that of later items
    content: np.ndarray | None  # float32[items, width], embeddings of length 1, or 0
    labels: Mapping[str, pa.Array]  # by item column, the distinct values in the order of their numbers
    values: Mapping[str, np.ndarray]  # by item column int64[items], numbers of the values
    contexts: Mapping[str, Mapping[str, int]]  # by users column, numbers of the values by user id, from 1
    lift: Mapping[tuple[str, str], np.ndarray]  # by both columns float32[contexts, values], logarithms
    transitions: Transitions | None

    @staticmethod
    def count(
        dataset: Dataset,
        popularity: np.ndarray,
        content: np.ndarray | None = None,
        item_columns: Sequence[str] = (),
        user_columns: Sequence[str] = (),
        transitions: Transitions | None = None,
    ) -> "Features":
        """Counts the training split.

        `popularity` int[items] are training interactions; `content` float32[items, width] are item embeddings.
        `item_columns` of the catalogue are attributes of items, `user_columns` of the users table are contexts. Raises
        DataError for unknown columns.
        """
        shares = (np.append(popularity, 0) + 1) / (popularity.sum() + len(popularity))
        labels = {name: labels_of(dataset.catalogue, name) for name in item_columns}
        values = {name: _numbers(dataset.catalogue, name, known, len(popularity)) for name, known in labels.items()}
        contexts = {name: contexts_of(dataset.users, name) for name in user_columns}
        return Features(
            np.log(shares).astype(np.float32),
            None if content is None else unit(content),
            labels,
            values,
            contexts,
            _log_lift(dataset, values, contexts) if item_columns and user_columns else {},
            transitions,
        )

    @staticmethod
    def columns_in(names: Collection[str], dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Returns the item columns and the user columns from which features with these names are computed."""
        users = [] if dataset.users is None else dataset.users.column_names
        items = tuple(one for one in dataset.catalogue.table.column_names if _same(one) in names)
        return items, tuple(one for one in users if any(_both(one, of_item) in names for of_item in items))

    @property
    def names(self) -> list[str]:
        """The names of the features that `compute` returns."""
        found = ["popularity", "repeat"]
        found += [CONTENT, LAST_CONTENT] if self.content is not None else []
        found += [TRANSITIONS] if self.transitions is not None else []
        return [*found, *map(_same, self.values), *(_both(*pair) for pair in self.lift)]

    def over(self, catalogue: Catalogue, content: np.ndarray | None) -> "Features":
        """Returns the features over a catalogue that has grown, or whose cells have changed.

        `content` is that of all items, of length 1 or 0. Values that came later have no lift.
        """
        known = len(self.popularity) - 1
        values = {name: _numbers(catalogue, name, labels, known) for name, labels in self.labels.items()}
        return dataclasses.replace(self, content=content, values=values)

    def compute(
        self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns each feature float32[users, n] of items int32[users, n], catalogue rows; undefined for row -1."""
        known = np.maximum(items, 0)
        found = {"popularity": self.popularity[np.minimum(known, len(self.popularity) - 1)]}
        recent = np.zeros((len(histories), RECENT), np.int64)
        weights = np.zeros(recent.shape, np.float32)
        for row, history in enumerate(histories):
            last = np.asarray(history)[-RECENT:][::-1]
            recent[row, : len(last)], weights[row, : len(last)] = last, DECAY ** np.arange(len(last))
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        repeated = (items[:, :, None] == np.where(weights > 0, recent, -2)[:, None, :]).any(axis=2)
        found["repeat"] = repeated.astype(np.float32)
        if self.content is not None:
            wanted = (weights[..., None] * self.content[recent]).sum(axis=1)  # [users, width]
            found[CONTENT] = np.einsum("uw,unw->un", wanted, self.content[known])
            latest = self.content[recent[:, 0]] * (weights[:, :1] > 0)
            found[LAST_CONTENT] = np.einsum("uw,unw->un", latest, self.content[known])
        if self.transitions is not None:
            found[TRANSITIONS] = self._log_probabilities(histories, known)
        for name, values in self.values.items():
            same = values[known][:, :, None] == values[recent][:, None, :]
            found[_same(name)] = np.log(0.01 + (same * weights[:, None, :]).sum(axis=2))
        for (context, name), table in self.lift.items():
            contexts, values = _context(self.contexts[context], user_ids)[:, None], self.values[name][known]
            counted = values < table.shape[1]
            found[_both(context, name)] = np.where(counted, table[contexts, np.where(counted, values, 0)], 0)
        return {name: values.astype(np.float32) for name, values in found.items()}

    def _log_probabilities(self, histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns float32[users, n], log-probabilities of items int64[users, n] by the mixture of transitions.

        NaN for items that the mixture does not know.
        """
        assert self.transitions is not None  # checked by the caller
        found, known = np.empty(items.shape, np.float32), self.transitions.items
        for start in range(0, len(items), self.transitions.at_once):
            block = slice(start, start + self.transitions.at_once)
            read = [one[one < known] for one in map(np.asarray, histories[block])]
            some, probabilities = items[block], self.transitions.dense(read)
            found[block] = np.take_along_axis(probabilities, np.minimum(some, known - 1), axis=1)
        return np.where(items < known, np.log(found), np.nan)


def _same(item_column: str) -> str:
    return f"same {item_column}"


def _both(user_column: str, item_column: str) -> str:
    return f"{user_column} and {item_column}"


def reads_content(names: Collection[str]) -> bool:
    """Returns whether features with these names are computed from the embeddings of items."""
    return CONTENT in names or LAST_CONTENT in names


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns float32[n, width]: vectors scaled to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def labels_of(catalogue: Catalogue, name: str) -> pa.Array:
    """Returns the distinct values of an item column, in the order of the catalogue."""
    return cells.labels(catalogue.column(name)).dictionary_encode().dictionary


def _numbers(catalogue: Catalogue, name: str, known: pa.Array, counted: int) -> np.ndarray:
    """Returns int64[items], numbers of the values of an item column: places in `known`, then those of other values.

    An item whose cell is empty has a value of its own: `counted`, the number of items at the time of training, plus its
    row.
    """
    labels = cells.labels(catalogue.column(name))
    place = pc.index_in(labels, value_set=known).cast(pa.int64())
    other = pc.add(labels.dictionary_encode().indices.cast(pa.int64()), LATER)
    own = pa.array(np.arange(counted, counted + len(labels)))
    return pc.if_else(labels.is_valid(), pc.coalesce(place, other), own).to_numpy()


def contexts_of(users: pa.Table | None, name: str) -> dict[str, int]:
    """Returns by user id the number of the value in a users column, from 1; 0 for an empty cell."""
    if users is None or name not in users.column_names:
        there = "there are no users" if users is None else f"they have {', '.join(users.column_names)}"
        raise DataError(f"multi_stage.user_columns: users have no column {name!r} ({there}).")
    indices = cells.labels(users[name]).dictionary_encode().indices
    numbers = pc.add(indices, 1).fill_null(0).to_pylist()
    return dict(zip(users["user_id"].cast(pa.string()).to_pylist(), numbers, strict=True))


def _context(numbers: Mapping[str, int], user_ids: Sequence[str]) -> np.ndarray:
    """Returns int64[users]: the number of each user's value; 0 for unknown users."""
    return np.array([numbers.get(user_id, 0) for user_id in user_ids], np.int64)


def _log_lift(
    dataset: Dataset, values_of: Mapping[str, np.ndarray], contexts_of: Mapping[str, Mapping[str, int]]
) -> dict[tuple[str, str], np.ndarray]:
    """Returns log P(value | context) / P(value), float32[contexts, values] by user column and item column."""
    sizes = {name: max(numbers.values(), default=0) + 1 for name, numbers in contexts_of.items()}
    counts = {
        (context, name): np.zeros((sizes[context], int(values.max()) + 1))
        for context in contexts_of
        for name, values in values_of.items()
    }
    for sequences in read_chunks(dataset.split("train")):
        items = np.concatenate([sequence.items for sequence in sequences])
        lengths = [len(sequence.items) for sequence in sequences]
        user_ids = [sequence.user_id for sequence in sequences]
        for (context, name), table in counts.items():
            contexts = np.repeat(_context(contexts_of[context], user_ids), lengths)
            np.add.at(table, (contexts, values_of[name][items]), 1)
    lifts = {}
    for key, table in counts.items():
        overall = (table.sum(axis=0) + 1e-9) / (table.sum() + 1e-9)
        within = (table + PRIOR * overall) / (table.sum(axis=1, keepdims=True) + PRIOR)
        lifts[key] = np.log(within / overall).astype(np.float32)
        lifts[key][0] = 0  # the unknown context
    return lifts
