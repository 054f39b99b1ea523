"""Hard filters from prompts: "no audiobooks" excludes them, whatever the model's scores.

Rules apply to the columns named in config.Prompts.rules, and to values that stand in the prompt word for word, in any
case, singular or plural; `genrec.serving.prompt_grammar` states which clauses ask for them or refuse them. A value that
is also an ordinary word, such as an artist named Calm, has to be marked: "by Calm", "artist Calm", or in quotes.
The rest of a prompt is taste: it conditions the model only. A prompt in another language than English makes no rules.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.input_pipeline import prompts
from genrec.serving import prompt_clauses, prompt_grammar, prompt_values, prompt_words, understanding
from genrec.serving.prompt_clauses import Clause, Item, Qualifier
from genrec.serving.prompt_grammar import NOT, ONLY, UNSURE, Statement
from genrec.serving.prompt_values import Meaning, ValueIndex
from genrec.serving.prompt_words import Word
from genrec.serving.understanding import TASTE, Part, Understanding

BOOLEANS = ("true", "false")  # a column of these is matched by its name
PEOPLE = "artist artists author authors band brand composer creator director host narrator performer singer".split()


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
            values, lists = prompt_values.values(catalogue.column(column))
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
                self._index.add(meaning, prompt_values.forms(self._roles[column], value))

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
            found = prompt_clauses.tokens(words, self._index.at)
            new = [part for pair in prompt_grammar.statements(found) for part in self._parts(line, number, *pair)]
            new = understanding.without_contradictions(new)
            parts, lost = understanding.overridden(parts, new)
            overridden += lost
            parts += new
        parts = [
            dataclasses.replace(part, number=number, rule=part.rule and rules)
            for number, part in enumerate(parts, start=1)
        ]
        return Understanding(prompt, tuple(parts), tuple(overridden), english)

    def named_in(self, text: str) -> list[Meaning]:
        """Returns the values that a text names, whatever it says of them."""
        words = prompt_words.words(text)
        return [meaning for token in prompt_clauses.tokens(words, self._index.at) for meaning in token.meanings]

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
        elif statement is not None and statement.kind != UNSURE:
            for conjunction in self._refused(statement.items):
                said = True
                rule = statement.kind == NOT and any(column in self._columns for column in conjunction)
                yield part(statement.kind, conjunction, rule)
        if not said and clause.has("VUj"):
            unsure = statement is not None and statement.kind != ONLY
            yield Part(UNSURE if unsure else TASTE, (), words, words, False, number, start, stop)

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
