"""Wishes that are rules: "no audiobooks" gives none, whatever the model thinks of them.

Only columns that are named as rules are looked at (config.Wishes.rules), and only values that stand in the wish word
for word; all else in a wish is taste, and left to the model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from genrec.data import wishes
from genrec.data.dataset import Catalogue
from genrec.decoding.filters import Condition

NEGATIONS = (
    "no more",
    "no",
    "not",
    "never",
    "without",
    "anything but",
    "except",
    "tired of",
    "enough of",
    "spare me",
    "stop giving me",
    "stop playing",
    "bored with",
    "leave out",
    "skip",
    "avoid",
    "nothing by",
    "nothing from",
)
YES_OR_NO = ("true", "false")  # a column of these is asked for by its name
# Between a negation and what it is about, as in "no more of that jazz" or "nothing by Ada".
FILLERS = r"(?:(?:more|any|of|the|that|this|by|from|about|those|these|a|an)\s+)*"


class WishRules:
    """The values of some columns, to be found in wishes."""

    def __init__(self, columns: Sequence[str], roles: Mapping[str, str], catalogue: Catalogue):
        """`roles` of columns, as in config.Wishes.columns. Raises DataError for columns that are not there."""
        self._known: list[tuple[str, str, re.Pattern]] = []  # column, value, what the value looks like in a wish
        for column in columns:
            cells = catalogue.column(column).cast(pa.string()).to_pylist()
            values = sorted({value for value in cells if value})
            if values and set(values) <= set(YES_OR_NO):
                self._known.append((column, "true", _pattern([column.replace("_", " ")])))
                continue
            for value in values:
                spoken = wishes.spoken(roles.get(column, ""), value)
                self._known.append((column, value, _pattern({spoken, value.replace("_", " "), value})))

    def conditions(self, wish: str) -> tuple[Condition, ...]:
        """What items must fulfil: one of the values that are wished for in each column, none of those refused."""
        wanted: dict[str, list[str]] = {}
        refused: dict[str, list[str]] = {}
        for column, value, pattern in self._known:
            for found in pattern.finditer(wish):
                (refused if _is_negated(wish[: found.start()]) else wanted).setdefault(column, []).append(value)
        conditions = [Condition(column, "=", _distinct(values)) for column, values in wanted.items()]
        conditions += [Condition(column, "!=", _distinct(values)) for column, values in refused.items()]
        return tuple(conditions)


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _pattern(forms: Iterable[str]) -> re.Pattern:
    longest_first = sorted(set(forms), key=lambda form: (-len(form), form))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


_NEGATED = re.compile(rf"(?<!\w)(?:{'|'.join(NEGATIONS)})\s+{FILLERS}$", re.IGNORECASE)
_LISTED = re.compile(r"(?:\s*,)?\s*(?:or|nor)\s+$", re.IGNORECASE)


def _is_negated(before: str) -> bool:
    """Whether what comes after `before` is refused: "no jazz or metal" refuses both."""
    while listed := _LISTED.search(before):
        before = re.sub(r"[\w'-]+$", "", before[: listed.start()])
    return _NEGATED.search(before) is not None
