"""Hard filters from prompts: "no audiobooks" excludes them, whatever the model's scores.

Rules apply to the columns named in config.Prompts.rules, and to values that stand in the prompt word for word; the rest
of a prompt conditions the model only.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from genrec.data.cells import value_sets
from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.input_pipeline import prompts

LESS = "less"  # conditions the model, but is no rule
# The negations of training prompts, and more that people use.
NEGATIONS = (
    *(negation for negation in prompts.NEGATIONS.split("|") if negation != LESS),
    "except",
    "stop giving me",
    "leave out",
    "nothing by",
    "nothing from",
)
BOOLEANS = ("true", "false")  # a column of these is matched by its name
# Between a negation and what it negates, as in "no more of that jazz" or "nothing by Ada".
FILLERS = r"(?:(?:more|any|of|the|that|this|by|from|about|those|these|a|an)\s+)*"
LISTED = re.compile(r"(?:\s*,)?\s*(?:or|nor)\s+$", re.IGNORECASE)


class PromptRules:
    """Matcher of the values of some columns in prompts, with negation."""

    def __init__(
        self, columns: Sequence[str], roles: Mapping[str, str], catalogue: Catalogue, also: Sequence[str] = ()
    ):
        """`roles` of columns are those of config.Prompts.columns; `also` are negations in addition to NEGATIONS.

        Raises DataError for unknown columns.
        """
        self._negated = re.compile(rf"(?<!\w)(?:{'|'.join((*NEGATIONS, *also))})\s+{FILLERS}$", re.IGNORECASE)
        self._roles = roles
        self._lists: set[str] = set()  # columns whose cells have several values
        self._values: list[tuple[str, str, set[str]]] = []  # column, value, its forms in prompts in lower case
        for column in columns:
            self._lists |= {column} if pa.types.is_nested(catalogue.column(column).type) else set()
            values = sorted({value for found in value_sets(catalogue.column(column)) for value in found})
            if values and set(values) <= set(BOOLEANS):
                self._values.append((column, "true", {column.replace("_", " ").lower()}))
                continue
            for value in values:
                forms = prompts.surface_form(roles.get(column, ""), value), value.replace("_", " "), value
                self._values.append((column, value, {form.lower() for form in forms}))

    def conditions(self, prompt: str) -> tuple[Condition, ...]:
        """Returns conditions on items: in each column one of the values asked for, none of the negated ones."""
        wanted: dict[str, list[str]] = {}
        negated: dict[str, list[str]] = {}
        lower = prompt.lower()
        for column, value, forms in self._values:
            if not any(form in lower for form in forms):  # fast, for a hundred thousand artists too
                continue
            for found in _pattern(forms).finditer(prompt):
                (negated if self._is_negated(prompt[: found.start()]) else wanted).setdefault(column, []).append(value)
        conditions = [
            Condition(column, f"{sign}{'~' if column in self._lists else '='}", _distinct(values))
            for sign, found_in in (("", wanted), ("!", negated))
            for column, values in found_in.items()
        ]
        return tuple(conditions)

    def negative_prompt(self, prompt: str) -> str:
        """Returns a prompt for the values that `prompt` negates, "" if there are none."""
        negated = [condition for condition in self.conditions(prompt) if condition.operator.startswith("!")]
        return ", ".join(
            prompts.surface_form(self._roles.get(c.column, ""), value) for c in negated for value in c.values
        )

    def _is_negated(self, before: str) -> bool:
        """Returns whether the text `before` a value negates it: "no jazz or metal" negates both."""
        while listed := LISTED.search(before):
            before = re.sub(r"[\w'-]+$", "", before[: listed.start()])
        return self._negated.search(before) is not None


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _pattern(forms: Iterable[str]) -> re.Pattern:
    longest_first = sorted(set(forms), key=lambda form: (-len(form), form))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
