"""Values of the catalogue in the words of a prompt.

A value stands there word for word, in any case, singular or plural. One that is also an ordinary word, such as an
artist named Calm, has to be marked: "by Calm", "artist Calm", or in quotes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from genrec.data.cells import value_sets
from genrec.data.filters import SEPARATOR
from genrec.input_pipeline import prompts
from genrec.serving import prompt_words
from genrec.serving.prompt_words import Word

NOT_PLURAL = ("news", "series", "blues", "classics")  # of no singular that means the same


class Meaning(NamedTuple):
    """A value that words can mean."""

    column: str
    role: str  # kind, mood, about or by
    value: str


# Words and a place among them -> how many words from there name a value, its meanings, whether it is a singular.
ValuesAt = Callable[[Sequence[Word], int], tuple[int, tuple[Meaning, ...], bool]]


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


def values(column: pa.Array) -> tuple[list[str], bool]:
    """Returns the distinct values of a column, and whether cells have several: in a list, or separated by "|"."""
    if pa.types.is_nested(column.type):
        return sorted({value for cell in value_sets(column) for value in cell}), True
    cells = pc.unique(column.cast(pa.string())).to_pylist()
    lists = any(cell and SEPARATOR in cell for cell in cells)
    if lists:
        cells = [value.strip() for cell in cells if cell for value in cell.split(SEPARATOR)]
    return sorted({cell for cell in cells if cell}), lists


def forms(role: str, value: str) -> set[str]:
    """Returns a value as prompts write it: as it is, and as a plural or singular."""
    text = value.replace("_", " ")
    written = {text}
    if role not in ("kind", "about"):
        return written
    written.add(prompts.surface_form("kind", text))
    if text.endswith("y") and text[-2:-1] not in "aeiou":
        written.add(f"{text[:-1]}ies")
    if role == "kind" and text.endswith("s") and not text.endswith("ss") and text.lower() not in NOT_PLURAL:
        written.add(text[:-1])
        if text.endswith("ies"):
            written.add(f"{text[:-3]}y")
    return written
