"""Prompts that are rules: "no audiobooks" gives none, whatever the model thinks of them.

Only columns that are named as rules are looked at (config.Prompts.rules), and only values that stand in the prompt word
for word; all else in a prompt is taste, and left to the model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.input_pipeline import prompts

LESS = "less"  # a taste, and never a rule
# What refuses in training, and more that people say.
NEGATIONS = (
    *(said for said in prompts.REFUSALS.split("|") if said != LESS),
    "except",
    "stop giving me",
    "leave out",
    "nothing by",
    "nothing from",
)
YES_OR_NO = ("true", "false")  # a column of these is asked for by its name
# Between a negation and what it is about, as in "no more of that jazz" or "nothing by Ada".
FILLERS = r"(?:(?:more|any|of|the|that|this|by|from|about|those|these|a|an)\s+)*"


class PromptRules:
    """The values of some columns, to be found in prompts."""

    def __init__(
        self, columns: Sequence[str], roles: Mapping[str, str], catalogue: Catalogue, also: Sequence[str] = ()
    ):
        """`roles` of columns, as in config.Prompts.columns; `also` negates beside NEGATIONS.

        Raises DataError for columns that are not there.
        """
        self._negated = re.compile(rf"(?<!\w)(?:{'|'.join((*NEGATIONS, *also))})\s+{FILLERS}$", re.IGNORECASE)
        self._roles = roles
        self._known: list[tuple[str, str, set[str]]] = []  # column, value, how it is said, in small letters
        for column in columns:
            cells = catalogue.column(column).cast(pa.string()).to_pylist()
            values = sorted({value for value in cells if value})
            if values and set(values) <= set(YES_OR_NO):
                self._known.append((column, "true", {column.replace("_", " ").lower()}))
                continue
            for value in values:
                forms = prompts.spoken(roles.get(column, ""), value), value.replace("_", " "), value
                self._known.append((column, value, {form.lower() for form in forms}))

    def conditions(self, prompt: str) -> tuple[Condition, ...]:
        """What items must fulfil: one of the values that are prompted for in each column, none of those refused."""
        wanted: dict[str, list[str]] = {}
        refused: dict[str, list[str]] = {}
        small = prompt.lower()
        for column, value, forms in self._known:
            if not any(form in small for form in forms):  # quick, of a hundred thousand artists too
                continue
            for found in _pattern(forms).finditer(prompt):
                (refused if self._is_negated(prompt[: found.start()]) else wanted).setdefault(column, []).append(value)
        conditions = [Condition(column, "=", _distinct(values)) for column, values in wanted.items()]
        conditions += [Condition(column, "!=", _distinct(values)) for column, values in refused.items()]
        return tuple(conditions)

    def refused(self, prompt: str) -> str:
        """A prompt for all that a prompt refuses; "" where it refuses nothing."""
        refusals = [condition for condition in self.conditions(prompt) if condition.operator == "!="]
        return ", ".join(prompts.spoken(self._roles.get(c.column, ""), value) for c in refusals for value in c.values)

    def _is_negated(self, before: str) -> bool:
        """Whether what comes after `before` is refused: "no jazz or metal" refuses both."""
        while listed := _LISTED.search(before):
            before = re.sub(r"[\w'-]+$", "", before[: listed.start()])
        return self._negated.search(before) is not None


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _pattern(forms: Iterable[str]) -> re.Pattern:
    longest_first = sorted(set(forms), key=lambda form: (-len(form), form))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


_LISTED = re.compile(r"(?:\s*,)?\s*(?:or|nor)\s+$", re.IGNORECASE)
