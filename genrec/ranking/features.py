"""Ranking features of candidates: popularity, transitions, similarity to the history, lift of attributes by context.

All features are logarithms or similarities, so that a weighted sum of them is a log-linear model (see `scoring`).
Popularity and lift are counted in the training split; the features of the history change with every new event.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data import cells
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.input_pipeline.transitions import Transitions
from genrec.ranking.lists import read_chunks

RECENT = 10  # last items of a history that similarities are computed with
DECAY = 0.8  # weight of an item of the history, relative to the one after it
BLOCK = 256  # users whose catalogues of probabilities are in memory at a time
PRIOR = 20.0  # pseudo-counts: interactions with the overall distribution, added to those of each context


class Features:
    """Computes features of candidates; counts the training split once."""

    def __init__(
        self,
        dataset: Dataset,
        popularity: np.ndarray,
        content: np.ndarray | None = None,
        item_columns: Sequence[str] = (),
        user_columns: Sequence[str] = (),
        transitions: Transitions | None = None,
    ):
        """`popularity` int[items] are training interactions; `content` float32[items, width] are item embeddings.

        `item_columns` of the catalogue are attributes of items, `user_columns` of the users table are contexts. Without
        `content` there are no content similarities, without `transitions` no probabilities by them. Raises DataError
        for unknown columns.
        """
        self._popularity = np.log((popularity + 1) / (popularity.sum() + len(popularity))).astype(np.float32)
        self._content, self._transitions = None, transitions
        if content is not None:
            lengths = np.linalg.norm(content, axis=1, keepdims=True)
            self._content = (content / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        self._values = {name: dataset.catalogue.groups(name) for name in item_columns}
        self._users = dataset.users
        self._contexts = {name: self._value_numbers(name) for name in user_columns}
        self._lift = self._log_lift(dataset) if user_columns and item_columns else {}

    def compute(
        self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns each feature float32[users, n] of items int32[users, n], catalogue rows; undefined for row -1."""
        known = np.maximum(items, 0)
        found = {"popularity": self._popularity[known]}
        recent = np.zeros((len(histories), RECENT), np.int64)
        weights = np.zeros(recent.shape, np.float32)
        for row, history in enumerate(histories):
            last = np.asarray(history)[-RECENT:][::-1]
            recent[row, : len(last)], weights[row, : len(last)] = last, DECAY ** np.arange(len(last))
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        repeated = (items[:, :, None] == np.where(weights > 0, recent, -2)[:, None, :]).any(axis=2)
        found["repeat"] = repeated.astype(np.float32)
        if self._content is not None:
            wanted = (weights[..., None] * self._content[recent]).sum(axis=1)  # [users, width]
            found["content of the history"] = np.einsum("uw,unw->un", wanted, self._content[known])
            latest = self._content[recent[:, 0]] * (weights[:, :1] > 0)
            found["content of the last item"] = np.einsum("uw,unw->un", latest, self._content[known])
        if self._transitions is not None:
            found["transitions"] = self._log_probabilities(histories, known)
        for name, values in self._values.items():
            same = values[known][:, :, None] == values[recent][:, None, :]
            found[f"same {name}"] = np.log(0.01 + (same * weights[:, None, :]).sum(axis=2))
        for (context, name), table in self._lift.items():
            contexts = self._context_of(context, user_ids)
            found[f"{context} and {name}"] = table[contexts[:, None], self._values[name][known]]
        return {name: values.astype(np.float32) for name, values in found.items()}

    def _log_probabilities(self, histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns float32[users, n], log-probabilities of items int64[users, n] by the mixture of transitions."""
        assert self._transitions is not None  # checked by the caller
        found = np.empty(items.shape, np.float32)
        for start in range(0, len(items), BLOCK):
            probabilities = self._transitions.dense(histories[start : start + BLOCK])
            found[start : start + BLOCK] = np.take_along_axis(probabilities, items[start : start + BLOCK], axis=1)
        return np.log(found)

    def _value_numbers(self, name: str) -> dict[str, int]:
        """Returns by user id the number of the value in a users column, from 1; 0 for an empty cell."""
        if self._users is None or name not in self._users.column_names:
            there = "there are no users" if self._users is None else f"they have {', '.join(self._users.column_names)}"
            raise DataError(f"multi_stage.user_columns: users have no column {name!r} ({there}).")
        indices = cells.labels(self._users[name]).dictionary_encode().indices
        numbers = pc.add(indices, 1).fill_null(0).to_pylist()
        return dict(zip(self._users["user_id"].cast(pa.string()).to_pylist(), numbers, strict=True))

    def _context_of(self, name: str, user_ids: Sequence[str]) -> np.ndarray:
        """Returns the context int64[users] of a column; 0 for unknown users."""
        numbers = self._contexts[name]
        return np.array([numbers.get(user_id, 0) for user_id in user_ids], np.int64)

    def _log_lift(self, dataset: Dataset) -> dict[tuple[str, str], np.ndarray]:
        """Returns log P(value | context) / P(value), float32[contexts, values] by user column and item column."""
        sizes = {name: max(numbers.values(), default=0) + 1 for name, numbers in self._contexts.items()}
        counts = {
            (context, name): np.zeros((sizes[context], int(values.max()) + 1))
            for context in self._contexts
            for name, values in self._values.items()
        }
        for sequences in read_chunks(dataset.split("train")):
            items = np.concatenate([sequence.items for sequence in sequences])
            lengths = [len(sequence.items) for sequence in sequences]
            user_ids = [sequence.user_id for sequence in sequences]
            for (context, name), table in counts.items():
                contexts = np.repeat(self._context_of(context, user_ids), lengths)
                np.add.at(table, (contexts, self._values[name][items]), 1)
        lifts = {}
        for key, table in counts.items():
            overall = (table.sum(axis=0) + 1e-9) / (table.sum() + 1e-9)
            within = (table + PRIOR * overall) / (table.sum(axis=1, keepdims=True) + PRIOR)
            lifts[key] = np.log(within / overall).astype(np.float32)
            lifts[key][0] = 0  # the unknown context
        return lifts
