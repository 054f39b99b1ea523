"""Mentions: the values of the catalogue's columns that prompts name word for word, and the items that have them.

A model with a prompt bias (`models.prompt_bias`) learns from the words around a mention how much it asks for the items,
or refuses them. Which items have a value is known, and not learned: also of values that are scattered over all codes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from genrec.data.cells import value_sets
from genrec.data.dataset import Catalogue
from genrec.input_pipeline.prompts import LISTS, surface_form
from genrec.input_pipeline.vocabulary import Vocabulary

MOST = 15  # mentions of a prompt; of more, the last ones count
REACH = 6  # pieces before a mention, and as many after it, that tell what it means
EXISTS = 1 << MOST  # the bit of rows of an index that hold an item


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTokens:
    """The tokens int32[items, levels] of all items: a constant of compiled functions, which compares by identity."""

    tokens: np.ndarray | jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mentions:
    """The mentions of the prompts in a batch, for each decoder group: a target in training, the user in decoding."""

    places: np.ndarray | jax.Array  # int32[rows, groups, MOST], the last token of each mention in its row
    columns: np.ndarray | jax.Array  # int32[rows, groups, MOST], the column of its value; -1 where there is no mention
    before: np.ndarray | jax.Array  # int32[rows, groups, MOST, REACH], the pieces before it; -1 where there are fewer
    after: np.ndarray | jax.Array  # int32[rows, groups, MOST, REACH], those after it
    # uint16[rows, groups, n]: bit k is set for items that have the value of mention k. The n items are those of the
    # catalogue, or the rows of an index, with the bit EXISTS.
    items: np.ndarray | jax.Array
    catalogue: ItemTokens | None = dataclasses.field(metadata={"static": True}, default=None)  # None in decoding


class Mention(NamedTuple):
    """A value in a prompt. Values of a column in a row, as in "no jazz or metal", have the same pieces around them."""

    last: int  # its last piece
    column: int
    items: np.ndarray  # int64[n], catalogue rows that have it
    before: np.ndarray  # int32[at most REACH], the pieces before it, after any other mention
    after: np.ndarray  # int32[at most REACH], the pieces after it, before any other mention


class MentionFinder:
    """Finds the values of some columns in the pieces of prompts."""

    def __init__(
        self, columns: Sequence[tuple[str, str]], catalogue: Catalogue, vocabulary: Vocabulary, tokens: np.ndarray
    ):
        """`columns` are (name, role), in the order of the model; `tokens` int32[items, levels] those of all items.

        Raises DataError for a column that the catalogue does not have.
        """
        self.catalogue, self._continues = ItemTokens(tokens), vocabulary.continues_word
        self._joints = {(), *(tuple(vocabulary.encode(joint.strip()).tolist()) for joint in LISTS)}
        self._of_pieces: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for number, (name, role) in enumerate(columns):
            rows: dict[str, list[int]] = {}
            for row, values in enumerate(value_sets(catalogue.column(name))):
                for value in values:
                    rows.setdefault(value, []).append(row)
            for value, of_value in rows.items():
                for form in {surface_form(role, value), surface_form(role, value, singular=True)}:
                    pieces = tuple(vocabulary.encode(form).tolist())
                    self._of_pieces.setdefault(pieces, []).append((number, np.array(of_value)))
        self._longest = max(map(len, self._of_pieces), default=0)

    @property
    def items(self) -> int:
        return len(self.catalogue.tokens)

    def find(self, pieces: np.ndarray) -> list[Mention]:
        """Returns the mentions in the pieces int[n] of a prompt, at most MOST; of overlapping ones the longest."""
        read, first = tuple(pieces.tolist()), 0
        runs: list[list[tuple[int, int]]] = []  # spans of mentions; lists of values of one column are a run
        while first < len(read):
            stop = self._stop(read, first)
            if stop > first:
                if runs and self._in_list(read, runs[-1][-1], (first, stop)):
                    runs[-1].append((first, stop))
                else:
                    runs.append([(first, stop)])
            first = max(stop, first + 1)
        found = []
        ends = [0, *(run[-1][1] for run in runs)]
        begins = [*(run[0][0] for run in runs), len(read)]
        for number, run in enumerate(runs):
            before = pieces[ends[number] : begins[number]][-REACH:]
            after = pieces[ends[number + 1] : begins[number + 1]][:REACH]
            for first, stop in run:
                values = self._of_pieces[read[first:stop]]
                found += [Mention(stop - 1, column, items, before, after) for column, items in values]
        return found[-MOST:]

    def _in_list(self, read: tuple[int, ...], one: tuple[int, int], other: tuple[int, int]) -> bool:
        """Returns whether two spans of pieces name values of the same column, as in "jazz or metal"."""
        if read[one[1] : other[0]] not in self._joints:
            return False
        columns = [{column for column, _ in self._of_pieces[read[slice(*span)]]} for span in (one, other)]
        return bool(columns[0] & columns[1])

    def _stop(self, read: tuple[int, ...], first: int) -> int:
        """Returns the end of the longest value from `first` on that ends with a word; `first` if there is none."""
        for stop in range(min(len(read), first + self._longest), first, -1):
            ends_word = stop == len(read) or not self._continues[read[stop]]
            if ends_word and read[first:stop] in self._of_pieces:
                return stop
        return first
