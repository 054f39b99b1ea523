"""Understanding of a prompt: its parts, rules or taste, each of which can be switched off."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from genrec.data.errors import DataError
from genrec.data.filters import Condition, Filter
from genrec.errors import cut
from genrec.serving.prompt_grammar import LESS, NOT, ONLY, UNSURE

TASTE = "taste"
NOT_ENGLISH = "not in English, so that no part of it is a rule"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a prompt as it was understood."""

    kind: str  # ONLY, NOT, LESS, UNSURE or TASTE
    conditions: tuple[Condition, ...]  # of the items that it speaks of, which fulfill all; none if no value is known
    text: str  # in words, such as "sad music"
    words: str  # of the prompt
    rule: bool  # constrains the search, rather than condition the model only
    line: int
    start: int  # place of the words in the line
    stop: int
    names: tuple[str, ...] = ()  # what the conditions are about, in words: alternatives
    number: int = 0  # of the part in the whole prompt, counted from 1: it stays when others are switched off

    @property
    def negative(self) -> bool:
        """True for a refusal that is no rule: it is in the negative prompt."""
        return self.kind in (NOT, LESS) and not self.rule

    @property
    def place(self) -> tuple[int, int, int, str]:
        """Tells the part from others, also of a longer prompt."""
        return self.line, self.start, self.stop, self.text


@dataclasses.dataclass(frozen=True)
class Understanding:
    """Parts of a prompt as they were understood. Later lines override earlier ones that contradict them."""

    prompt: str
    parts: tuple[Part, ...] = ()
    overridden: tuple[Part, ...] = ()
    english: bool = True

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The rules about one column each: one of the values asked for, none of the refused ones."""
        return (*self._single(ONLY), *self._single(NOT))

    @property
    def deny_where(self) -> tuple[tuple[Condition, ...], ...]:
        """The refusals of items that fulfill several conditions at once."""
        refused = [part for part in self.parts if part.rule and part.kind == NOT]
        return tuple(part.conditions for part in refused if len(part.conditions) > 1)

    def _single(self, kind: str) -> list[Condition]:
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for part in self.parts:
            if part.rule and part.kind == kind and len(part.conditions) == 1:
                (condition,) = part.conditions
                key = condition.column, condition.operator if kind == ONLY else f"!{condition.operator}"
                found[key] = tuple(dict.fromkeys((*found.get(key, ()), *condition.values)))
        return [Condition(column, operator, values) for (column, operator), values in found.items()]

    def restrict(self, item_filter: Filter) -> Filter:
        """Returns `item_filter` with the rules."""
        return dataclasses.replace(
            item_filter,
            conditions=(*item_filter.conditions, *self.conditions),
            deny_where=(*item_filter.deny_where, *self.deny_where),
        )

    def without(self, numbers: Collection[int]) -> "Understanding":
        """Returns the rest where parts of some numbers are switched off: rules become taste, taste is dropped.

        Raises DataError for a number that no part has.
        """
        if not numbers:
            return self
        unknown = sorted(set(numbers) - {part.number for part in self.parts})
        if unknown and self.prompt:
            raise DataError(f"the prompt has {len(self.parts)} parts and no part {unknown[0]}: {cut(self.as_text())}")
        kept, dropped = [], list(self.overridden)
        for part in self.parts:
            if part.number not in numbers:
                kept.append(part)
            elif part.rule:
                kept.append(dataclasses.replace(part, rule=False))
            else:
                dropped.append(part)
        return dataclasses.replace(self, parts=tuple(kept), overridden=tuple(dropped))

    def lines(self, refusals: bool = True) -> list[str]:
        """Returns the lines of the prompt as the model reads them, without clauses that are overridden or dropped.

        Without `refusals`, clauses are left out too that are in the negative prompt, or unsure.
        """
        kept = [part for part in self.parts if refusals or (part.kind != UNSURE and not part.negative)]
        lines = self.prompt.split("\n")
        spans = {(part.line, part.start, part.stop) for part in (*self.overridden, *self.parts)}
        for line, start, stop in sorted(spans - {(p.line, p.start, p.stop) for p in kept}, reverse=True):
            lines[line] = f"{lines[line][:start].rstrip(' ,')}{lines[line][stop:]}".strip(" ,")
        return [line for line in lines if line.strip()]

    def negative_prompt(self) -> str:
        """Returns a prompt for what is refused and is no rule, "" if there is nothing."""
        return ", ".join(name for part in self.parts if part.negative for name in part.names)

    def as_text(self) -> str:
        """Returns one line for people: "only podcasts; not: true crime; taste: calm; not understood: ..."."""
        wanted = ", ".join(part.text for part in self.parts if part.rule and part.kind == ONLY)
        refused = ", ".join(part.text for part in self.parts if part.rule and part.kind == NOT)
        tastes = [part for part in self.parts if not part.rule and part.kind != UNSURE]
        taste = ", ".join(part.text if part.kind == TASTE else part.words for part in tastes)
        unsure = ", ".join(part.words for part in self.parts if part.kind == UNSURE)
        parts = ("only", wanted), ("not:", refused), ("taste:", taste), ("not understood:", unsure)
        said = [f"{name} {text}" for name, text in parts if text]
        return "; ".join([*(said or ["nothing"]), *([] if self.english else [NOT_ENGLISH])])

    def as_table(self) -> list[str]:
        """Returns a line for each part, with its number and the words that it came from."""
        sign = {NOT: "no ", LESS: "less "}
        found = []
        for part in self.parts:
            kind = part.kind if part.rule or part.kind == UNSURE else TASTE
            what = part.text if part.rule else f"{sign.get(part.kind, '')}{part.text}"
            found.append(f"part {part.number}, {kind}: {what}, from {part.words!r}")
        return found

    def unknown_lines(self) -> list[str]:
        """Returns the lines of the prompt that no part is made of: the model alone reads them."""
        known = {part.line for part in (*self.parts, *self.overridden)}
        return [line for number, line in enumerate(self.prompt.split("\n")) if line.strip() and number not in known]

    def as_json(self) -> dict[str, object]:
        """Returns the fields for programs."""
        parts = [
            {
                "number": part.number,
                "kind": part.kind,
                "rule": part.rule,
                "text": part.text,
                "words": part.words,
                "conditions": {condition.column: list(condition.values) for condition in part.conditions},
            }
            for part in self.parts
        ]
        return {"text": self.as_text(), "english": self.english, "parts": parts}


def _values_by_column(parts: Iterable[Part], kind: str) -> set[tuple[str, str]]:
    single = [part.conditions[0] for part in parts if part.kind == kind and len(part.conditions) == 1]
    return {(condition.column, value) for condition in single for value in condition.values}


def without_contradictions(parts: list[Part]) -> list[Part]:
    """Returns the parts of a line, those that ask for and refuse the same value as unsure."""
    both = _values_by_column(parts, ONLY) & _values_by_column(parts, NOT)
    found = []
    for part in parts:
        contradicts = part.kind in (ONLY, NOT) and _values_by_column([part], part.kind) & both
        found.append(dataclasses.replace(part, kind=UNSURE, conditions=(), rule=False) if contradicts else part)
    return found


def overridden(parts: Sequence[Part], new: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Returns the parts of earlier lines that the `new` ones leave, and those that they override."""
    wanted, refused = _values_by_column(new, ONLY), _values_by_column(new, NOT)
    columns = {column for column, _ in wanted}
    kept: list[Part] = []
    lost: list[Part] = []
    for part in parts:
        mine = _values_by_column([part], part.kind)
        overrides = (part.kind == ONLY and (mine & refused or any(column in columns for column, _ in mine))) or (
            part.kind == NOT and mine & wanted
        )
        (lost if overrides else kept).append(part)
    return kept, lost
