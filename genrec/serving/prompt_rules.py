"""Hard filters from prompts: "no audiobooks" excludes them, whatever the model's scores.

Rules apply to the columns named in config.Prompts.rules, and to values that stand in the prompt word for word, in any
case, singular or plural; `genrec.serving.prompt_grammar` states which clauses ask for them or refuse them. A value that
is also an ordinary word, such as an artist named Calm, has to be marked: "by Calm", "artist Calm", or in quotes.
The rest of a prompt is taste: it conditions the model only. A prompt in another language than English makes no rules.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from genrec.data.cells import value_sets
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.data.filters import SEPARATOR, Condition, Filter
from genrec.errors import cut
from genrec.input_pipeline import prompts
from genrec.serving import prompt_grammar, prompt_words
from genrec.serving.prompt_grammar import LESS, NOT, ONLY, Clause, Item, Meaning, Qualifier, Statement
from genrec.serving.prompt_words import Word

TASTE = "taste"
BOOLEANS = ("true", "false")  # a column of these is matched by its name
PEOPLE = "artist artists author authors band brand composer creator director host narrator performer singer".split()
NOT_PLURAL = ("news", "series", "blues", "classics")  # of no singular that means the same
NOT_ENGLISH = "not in English, so that no part of it is a rule"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a prompt as it was understood."""

    kind: str  # ONLY, NOT, LESS or TASTE
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

    def lines(self) -> list[str]:
        """Returns the lines of the prompt as the model reads them, without clauses that are overridden or dropped."""
        lines = self.prompt.split("\n")
        spans = {(part.line, part.start, part.stop) for part in self.overridden}
        for line, start, stop in sorted(spans - {(p.line, p.start, p.stop) for p in self.parts}, reverse=True):
            lines[line] = f"{lines[line][:start].rstrip(' ,')}{lines[line][stop:]}".strip(" ,")
        return [line for line in lines if line.strip()]

    def negative_prompt(self) -> str:
        """Returns a prompt for what is refused and is no rule, "" if there is nothing."""
        refused = [part for part in self.parts if part.kind in (NOT, LESS) and not part.rule]
        return ", ".join(name for part in refused for name in part.names)

    def as_text(self) -> str:
        """Returns one line for people: "only podcasts; not: true crime; taste: calm"."""
        wanted = ", ".join(part.text for part in self.parts if part.rule and part.kind == ONLY)
        refused = ", ".join(part.text for part in self.parts if part.rule and part.kind == NOT)
        taste = ", ".join(part.text if part.kind == TASTE else part.words for part in self.parts if not part.rule)
        said = [f"{name} {text}" for name, text in (("only", wanted), ("not:", refused), ("taste:", taste)) if text]
        return "; ".join([*said, *([] if self.english else [NOT_ENGLISH])])

    def as_table(self) -> list[str]:
        """Returns a line for each part, with its number and the words that it came from."""
        return [
            f"part {part.number}, {part.kind if part.rule else TASTE}: {part.text}, from {part.words!r}"
            for part in self.parts
        ]

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


class PromptRules:
    """Matcher of the values of some columns in prompts, and reader of what prompts say of them."""

    def __init__(self, columns: Sequence[str], roles: Mapping[str, str], catalogue: Catalogue):
        """`columns` are those of rules; `roles` of columns are those of config.Prompts.columns.

        Raises DataError for unknown columns.
        """
        self._columns = columns
        self._index = ValueIndex()
        self._lists: set[str] = set()  # columns with several values in a cell
        self._roles: dict[str, str] = {}
        for column in dict.fromkeys((*columns, *(name for name, role in roles.items() if role != "words"))):
            role = roles.get(column, "")
            values, lists = _values(catalogue.column(column))
            if lists:
                self._lists.add(column)
            if values and set(values) <= set(BOOLEANS):
                self._roles[column] = "mood"  # an adjective, such as "explicit"
                self._index.add(Meaning(column, "mood", "true"), {column.removeprefix("is_")})
                continue
            known = role if role in prompts.FRAGMENTS and role != "words" else ""
            self._roles[column] = known or ("by" if column.lower() in PEOPLE else "about")
            for value in values:
                meaning = Meaning(column, self._roles[column], value)
                self._index.add(meaning, _forms(self._roles[column], value))

    def read(self, prompt: str, rules: bool = True) -> Understanding:
        """Returns what is understood of a prompt, each of its lines after the others; without `rules`, all is taste."""
        parts: list[Part] = []
        overridden: list[Part] = []
        english = True
        for number, line in enumerate(prompt.split("\n")):
            words = prompt_words.words(line)
            places = [self._index.at(words, place) for place in range(len(words))]
            if prompt_words.is_foreign(_unnamed(words, places)):
                english = False
                if line.strip():
                    parts.append(Part(TASTE, (), line.strip(), line.strip(), False, number, 0, len(line)))
                continue
            found = prompt_grammar.tokens(words, self._index.at)
            new = [part for pair in prompt_grammar.statements(found) for part in self._parts(line, number, *pair)]
            new = _without_contradictions(new)
            parts, lost = _overridden(parts, new)
            overridden += lost
            parts += new
        parts = [
            dataclasses.replace(part, number=number, rule=part.rule and rules)
            for number, part in enumerate(parts, start=1)
        ]
        return Understanding(prompt, tuple(parts), tuple(overridden), english)

    def conditions(self, prompt: str) -> tuple[Condition, ...]:
        """Returns the rules of a prompt that are about one column each."""
        return self.read(prompt).conditions

    def negative_prompt(self, prompt: str, rules: bool = True) -> str:
        """Returns a prompt for what `prompt` refuses, but for rules; "" if there is nothing."""
        return self.read(prompt, rules).negative_prompt()

    def _parts(self, line: str, number: int, clause: Clause, statement: Statement | None) -> Iterator[Part]:
        """Yields the parts that a clause is understood as."""
        spoken = [token for token in clause.tokens if token.letter not in "hcb,"] or list(clause.tokens)
        start, stop = spoken[0].start, spoken[-1].stop
        words = line[start:stop]

        def part(kind: str, conjunction: Mapping[str, Sequence[str]], rule: bool) -> Part:
            conditions = tuple(Condition(name, self._operator(name), tuple(v)) for name, v in conjunction.items())
            text = self._text(conjunction)
            names: tuple[str, ...] = (text,)
            if len(conjunction) == 1:
                ((column, values),) = conjunction.items()
                names = tuple(self._text({column: (value,)}) for value in values)
            return Part(kind, conditions, text, words, rule, number, start, stop, names)

        said = False
        if statement is not None and statement.kind == ONLY:
            for column, values in self._wanted(statement.items).items():
                said = True
                yield part(ONLY if column in self._columns else TASTE, {column: values}, column in self._columns)
        elif statement is not None:
            for conjunction in self._refused(statement.items):
                said = True
                rule = statement.kind == NOT and any(column in self._columns for column in conjunction)
                yield part(statement.kind, conjunction, rule)
        if not said and clause.has("VUj"):
            yield Part(TASTE, (), words, words, False, number, start, stop)

    def _operator(self, column: str) -> str:
        return "~" if column in self._lists else "="

    def _text(self, conjunction: Mapping[str, Sequence[str]]) -> str:
        """Returns values in words: "sad music by Ada Costa"."""
        order = sorted(conjunction, key=lambda column: prompts.ORDER[self._roles[column]])
        texts = []
        for column in order:
            role = self._roles[column]
            names = [column.replace("_", " ")] if conjunction[column] == ("true",) else conjunction[column]
            text = " or ".join(prompts.surface_form(role, name) for name in names)
            texts.append(f"by {text}" if role == "by" and len(order) > 1 else text)
        return " ".join(texts)

    def _wanted(self, items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
        """Returns the values of each column that are asked for, as far as the phrases agree on the column."""
        found: dict[str, tuple[str, ...]] = {}
        if any(item.joint == "c" for item in items):  # alternatives
            rows = _with_shared_head([self._columns_of(item.values) for item in items])
            for column in rows[0]:
                if all(column in row for row in rows):
                    found[column] = _distinct(value for row in rows for value in row[column])
            return found
        for item in items:
            for column, values in self._columns_of(item.values).items():
                found[column] = _distinct((*found.get(column, ()), *values))
        return found

    def _columns_of(self, qualifiers: Sequence[Qualifier]) -> dict[str, tuple[str, ...]]:
        """Returns the columns and values of a noun phrase that are certain."""
        found: dict[str, tuple[str, ...]] = {}
        for qualifier in qualifiers:
            ruled = [one for one in qualifier.meanings if one.column in self._columns]
            meanings = ruled or list(qualifier.meanings)
            if len({one.column for one in meanings}) == 1:
                column = meanings[0].column
                found[column] = _distinct((*found.get(column, ()), *(one.value for one in meanings)))
        return found

    def _refused(self, items: Sequence[Item]) -> list[dict[str, tuple[str, ...]]]:
        """Returns what is refused: conjunctions of columns and values."""
        first, last = items[0], items[-1]
        joined = max((place for place, item in enumerate(items) if item.joint == "c"), default=0)
        found: list[dict[str, tuple[str, ...]]] = []
        for place, item in enumerate(items):
            row = _all_columns(item.values)
            goes_on = item.bare and bool(row) and row.keys() <= _all_columns(first.values).keys()
            if place > joined and (not goes_on or items[place - 1].closed):
                break
            if (place and (item.asks or items[place - 1].asks)) or not item.values or item.before or item.after:
                continue
            if place and item.bare:
                if first.before or first.after:
                    continue
                row |= {c: v for c, v in _all_columns(first.values[:-1]).items() if c not in row}
            if place < len(items) - 1 and last.joint == "c" and last.values and place < joined:
                if last.after or (last.before and item.bare and len(last.values) > 1):
                    continue
                row |= _shared(row, last)
            ambiguous = len(item.values) == 1 and len({one.column for one in item.values[0].meanings}) > 1
            found += [{column: values} for column, values in row.items()] if ambiguous and item.bare else [row]
        return self._merged([row for row in found if row])

    def _merged(self, found: list[dict[str, tuple[str, ...]]]) -> list[dict[str, tuple[str, ...]]]:
        """Returns the conjunctions, those of one column as one."""
        merged: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
        several = []
        for row in found:
            if len(row) > 1:
                several.append(row)
                continue
            ((column, values),) = row.items()
            before = merged.get((column,), {}).get(column, ())
            merged[(column,)] = {column: _distinct((*before, *values))}
        return [*merged.values(), *several]


class ValueIndex:
    """Values by the words of their forms. Those that are ordinary words count only where they are marked."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], list[Meaning]] = {}
        self._marked: dict[tuple[str, ...], list[Meaning]] = {}
        self._longest: dict[str, int] = {}  # words of the longest form, by its first word
        self._names: dict[tuple[str, ...], str] = {}  # columns by their names
        self._longest_name = 0

    def add(self, meaning: Meaning, forms: Iterable[str]) -> None:
        """Adds a value with its forms in prompts."""
        for form in forms:
            key = prompt_words.key_of(form)
            if not key:
                continue
            if meaning.role == "by":
                ordinary = len(key) == 1 or all(word in prompt_words.GRAMMAR for word in key)
            else:
                ordinary = prompt_words.LETTERS.get(key, "j") not in "jgG"
            meanings = (self._marked if ordinary else self._values).setdefault(key, [])
            if meaning not in meanings:
                meanings.append(meaning)
            self._longest[key[0]] = max(self._longest.get(key[0], 0), len(key))
        name = tuple(meaning.column.replace("_", " ").lower().split())
        self._names[name] = meaning.column
        self._longest_name = max(self._longest_name, len(name))

    def at(self, words: Sequence[Word], place: int) -> tuple[int, tuple[Meaning, ...], bool]:
        """Returns how many words from a place name a value, its meanings, and whether it is one of a countable kind."""
        word = words[place]
        if word.letter == prompt_words.QUOTED:
            key = prompt_words.key_of(word.text)
            meanings = (*self._values.get(key, ()), *self._marked.get(key, ()))
            return (1, meanings, False) if meanings else (0, (), False)
        for length in range(min(self._longest_name, len(words) - place), 0, -1):
            column = self._names.get(tuple(one.text for one in words[place : place + length]))
            after = place + length
            if column is None or after >= len(words):
                continue
            after += words[after].text in (":", "=", "is")
            more, meanings = self._longest_from(words, after, marked=True)
            meanings = tuple(one for one in meanings if one.column == column and one.value != "true")
            if meanings:
                return after - place + more, meanings, False
        marked = place > 0 and words[place - 1].text == "by"
        length, meanings = self._longest_from(words, place, marked)
        singular = length == 1 and any(
            one.role == "kind" and prompts.surface_form("kind", one.value).lower() != word.text for one in meanings
        )
        return length, meanings, singular

    def _longest_from(self, words: Sequence[Word], place: int, marked: bool) -> tuple[int, tuple[Meaning, ...]]:
        if place >= len(words):
            return 0, ()
        longest = self._longest.get(words[place].text, 0)
        for length in range(min(longest, len(words) - place), 0, -1):
            stop = place + length
            if stop < len(words) and words[stop].glued:
                continue
            key = tuple(word.text for word in words[place:stop])
            meanings = (*self._values.get(key, ()), *(self._marked.get(key, ()) if marked else ()))
            if meanings:
                return length, meanings
        return 0, ()


def _values(column: pa.Array) -> tuple[list[str], bool]:
    """Returns the distinct values of a column, and whether cells have several: in a list, or separated by "|"."""
    if pa.types.is_nested(column.type):
        return sorted({value for cell in value_sets(column) for value in cell}), True
    cells = pc.unique(column.cast(pa.string())).to_pylist()
    lists = any(cell and SEPARATOR in cell for cell in cells)
    if lists:
        cells = [value.strip() for cell in cells if cell for value in cell.split(SEPARATOR)]
    return sorted({cell for cell in cells if cell}), lists


def _forms(role: str, value: str) -> set[str]:
    """Returns a value as prompts write it: as it is, and as a plural or singular."""
    text = value.replace("_", " ")
    forms = {text}
    if role not in ("kind", "about"):
        return forms
    forms.add(prompts.surface_form("kind", text))
    if text.endswith("y") and text[-2:-1] not in "aeiou":
        forms.add(f"{text[:-1]}ies")
    if role == "kind" and text.endswith("s") and not text.endswith("ss") and text.lower() not in NOT_PLURAL:
        forms.add(text[:-1])
        if text.endswith("ies"):
            forms.add(f"{text[:-3]}y")
    return forms


def _unnamed(words: Sequence[Word], places: Sequence[tuple[int, tuple[Meaning, ...], bool]]) -> list[str]:
    """Returns the words that name no value."""
    found, place = [], 0
    while place < len(words):
        length = places[place][0]
        if not length and not words[place].letter:
            found.append(words[place].text)
        place += max(length, 1)
    return found


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _all_columns(qualifiers: Sequence[Qualifier]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for qualifier in qualifiers:
        for one in qualifier.meanings:
            found[one.column] = _distinct((*found.get(one.column, ()), one.value))
    return found


def _with_shared_head(rows: list[dict[str, tuple[str, ...]]]) -> list[dict[str, tuple[str, ...]]]:
    """Returns the columns of alternatives; earlier ones share the head of the last: "calm or dark music"."""
    last = rows[-1]
    if len(last) > 1:
        rows = [
            {**{c: v for c, v in last.items() if not set(row) & {c} and set(row) & set(last)}, **row} for row in rows
        ]
    return rows


def _shared(row: Mapping[str, tuple[str, ...]], last: Item) -> dict[str, tuple[str, ...]]:
    """Returns what the last phrase of a list says of the ones before it: "no sad or dark music about love"."""
    heads = [value for value in last.values if not value.after]
    shared = [value for value in last.values if value.after]
    if len(heads) > 1:
        shared.append(heads[-1])
    return {column: values for column, values in _all_columns(shared).items() if column not in row}


def _values_by_column(parts: Iterable[Part], kind: str) -> set[tuple[str, str]]:
    single = [part.conditions[0] for part in parts if part.kind == kind and len(part.conditions) == 1]
    return {(condition.column, value) for condition in single for value in condition.values}


def _without_contradictions(parts: list[Part]) -> list[Part]:
    """Returns the parts of a line, those that ask for and refuse the same value as taste."""
    both = _values_by_column(parts, ONLY) & _values_by_column(parts, NOT)
    found = []
    for part in parts:
        contradicts = part.kind in (ONLY, NOT) and _values_by_column([part], part.kind) & both
        found.append(dataclasses.replace(part, kind=TASTE, conditions=(), rule=False) if contradicts else part)
    return found


def _overridden(parts: Sequence[Part], new: Sequence[Part]) -> tuple[list[Part], list[Part]]:
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
