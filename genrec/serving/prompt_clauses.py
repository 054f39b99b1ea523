"""Clauses of prompts and the noun phrases in them, as tokens: phrases with the letter of their class in `prompt_words`.

A prompt is split into clauses: at punctuation, at "but", "because", "if" and the like, at "and", "or" and commas where
a clause begins, and before "not", "no" and "except" where they follow what was asked for ("music, not podcasts").
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from genrec.serving import prompt_words
from genrec.serving.prompt_values import Meaning, ValuesAt
from genrec.serving.prompt_words import ASKING, NEGATIVE, NEW_PHRASE, Word

PARTICLES = ("up", "down", "off")  # "warm up" names no mood


class Token(NamedTuple):
    """A phrase of a prompt with its class of `prompt_words`."""

    letter: str
    text: str
    start: int  # its place in the prompt
    stop: int
    meanings: tuple[Meaning, ...] = ()
    singular: bool = False  # one of a kind, such as "podcast"


class Qualifier(NamedTuple):
    """A value in a noun phrase; several meanings if the words are ambiguous."""

    meanings: tuple[Meaning, ...]
    after: bool  # behind a preposition, as in "podcasts about history"


class Item(NamedTuple):
    """A noun phrase of a list: an item that it stands for has all of its values."""

    values: tuple[Qualifier, ...]
    before: bool  # words that no value says qualify it: before the head, and behind it
    after: bool
    joint: str  # what joins it to the phrase before: "", "," or "c"
    bare: bool  # a value and nothing else
    asks: bool  # with "please" or "instead"
    closed: bool  # ends with an adverb


@dataclasses.dataclass(frozen=True)
class Clause:
    """Tokens of a clause, and how it is joined to the one before it."""

    tokens: tuple[Token, ...]
    joint: str  # class of the token between; "" for the first clause
    comma: bool  # a comma stands between
    question: bool

    @functools.cached_property
    def letters(self) -> str:
        return "".join(token.letter for token in self.tokens)

    def has(self, letters: str) -> bool:
        """Returns whether a token is of one of the classes."""
        return any(letter in letters for letter in self.letters)


def tokens(found: Sequence[Word], values_at: ValuesAt) -> list[Token]:
    """Returns the phrases of a prompt with their classes.

    `values_at` returns how many words from a place name a value, what they mean, and whether they are a singular.
    Words that are joined by hyphens are one, of no class but that of their value.
    """
    made: list[Token] = []
    first = 0
    while first < len(found):
        joined = 1
        while first + joined < len(found) and found[first + joined].glued:
            joined += 1
        length, meanings, singular = values_at(found, first)
        letter, phrase = prompt_words.letter_at(found, first)
        if meanings and all(one.role == "mood" for one in meanings) and _text(found, first + length) in PARTICLES:
            letter, length, meanings = prompt_words.UNKNOWN, length + 1, ()  # "warm up"
        elif meanings and length >= phrase:
            letter = prompt_words.VALUE
        else:
            length, meanings, singular = phrase, (), False
        if length < joined:
            made += _hyphenated(found[first : first + joined], values_at)
            length = joined
            if made[-1].meanings and first + length < len(found) and values_at(found, first + length)[0]:
                made.append(Token(prompt_words.COLON, "", made[-1].stop, made[-1].stop))  # "podcast-free | music"
        else:
            read = found[first : first + length]
            text = " ".join(word.text for word in read)
            made.append(Token(letter, text, read[0].start, read[-1].stop, meanings, singular))
        first += length
    return made


def _text(found: Sequence[Word], place: int) -> str:
    return found[place].text if place < len(found) else ""


def _hyphenated(found: Sequence[Word], values_at: ValuesAt) -> list[Token]:
    """Returns the tokens of words that hyphens join: "non-podcasts" and "podcast-free" refuse, others are unknown."""
    word = Token(prompt_words.UNKNOWN, "-".join(one.text for one in found), found[0].start, found[-1].stop)
    for refuses, value in ((found[0].text == "no", found[1:]), (found[-1].text == "free", found[:-1])):
        length, meanings, _ = values_at(value, 0)
        if refuses and meanings and length == len(value):
            return [word._replace(letter="N"), word._replace(letter=prompt_words.VALUE, meanings=meanings)]
    return [word]


def clauses(found: Sequence[Token]) -> list[Clause]:
    """Returns the clauses of a prompt."""
    done: list[Clause] = []
    current: list[Token] = []
    joint, comma = "", False
    for place, token in enumerate(found):
        letter, letters = token.letter, "".join(one.letter for one in current)
        if letter == prompt_words.COLON and found[place + 1 : place + 2] and found[place + 1].letter == "c":
            continue  # "no podcasts (or audiobooks)"
        if letter in ",c" and _continues(letters, found, place):
            if letter == "c" and letters.endswith(","):
                current.pop()
            current.append(token)
            continue
        if letter in NEGATIVE and token.text != "not" and current and current[-1].text == token.text:
            continue  # "no no no podcasts"
        refuses = letter in "nNZ" and re.search("V[hgGj]*[Wr]?$", letters) and not re.search("[nNmMXqRP]", letters)
        refuses = refuses or (letter in "nN" and _is_repeated(current, letters, found, place))
        if letter in ".?:,cbYFeEC" or refuses:
            if current:
                done.append(Clause(tuple(current), joint, comma, letter == "?"))
                current, joint, comma = [], letter, letter == ","
            elif letter != ",":
                joint = letter if joint in ("", ",", "c") or letter in ".?" else joint
            comma = comma or letter == ","
        if letter in "FeEC" or refuses:
            current.append(token)
        elif token.text == "nor" and not current:
            current.append(token._replace(letter="n"))
        elif letter not in ".?:,cbY" and not (letters == "n" and current[0].text == "nor" and letter in "Xi"):
            current.append(token)
    if current:
        done.append(Clause(tuple(current), joint, comma, False))
    return done


def _is_repeated(current: Sequence[Token], letters: str, found: Sequence[Token], place: int) -> bool:
    """Returns whether the same word refuses once more, without a comma: "no podcasts no audiobooks"."""
    refusal = re.fullmatch("[hcb]*(?P<negator>[nN])[dgj]*V[hgG]*", letters)
    if refusal is None or current[refusal.start("negator")].text != found[place].text:
        return False
    return re.match("[dgj]*V", "".join(token.letter for token in found[place + 1 :])) is not None


def _continues(letters: str, found: Sequence[Token], place: int) -> bool:
    """Returns whether a comma or a conjunction goes on with a list, rather than begin a clause."""
    comma = found[place].letter == ","
    if not re.search("(?:V[hgG]*|[gjU,])$", letters) or not re.search("[VnNmsjeE]", letters):
        return False
    if comma and re.match("[hcb]*E", letters):
        return False  # "instead of podcasts, music"
    following = ""
    for token in found[place + 1 :]:
        if token.letter == "c" and not following:
            comma = False
            continue
        if token.letter in "nNZ" and following and comma:
            return False  # "music yes, podcasts no"
        if token.letter in ".?:,cbYFeECnNZ":
            break
        if (not following and token.text in NEW_PHRASE) or (comma and token.text == "instead"):
            return False
        following += token.letter
    if not comma and re.fullmatch("[dDjUV,c]*V", letters) and re.match("[dDj]*V", following):
        return True  # the subject of a statement, or a list
    return re.fullmatch(("[dDgGjUV]" if comma else "") + "[dDgGjUVBaWOfT]+h*|[gGjUV]h*", following) is not None


def items(found: Sequence[Token]) -> tuple[Item, ...]:
    """Returns the noun phrases of a list."""
    made: list[Item] = []
    part: list[Token] = []
    joint = ""
    for token in (*found, Token("c", "", 0, 0)):
        if token.letter not in ",c":
            part.append(token)
            continue
        if part:
            made.append(_item(part, joint))
            joint = ""
        joint = "c" if "c" in (token.letter, joint) else token.letter
        part = []
    return tuple(made)


def _item(found: Sequence[Token], joint: str) -> Item:
    """Returns the noun phrase of tokens."""
    letters = "".join(token.letter for token in found)
    head = letters.find("V")
    values: list[Qualifier] = []
    before = after = False
    mode = ""  # the preposition before
    for place, token in enumerate(found):
        rest = letters[place + 1 :]
        if token.letter == "V":
            meanings = tuple(one for one in token.meanings if _counts(one.role, mode, rest, letters[:place]))
            if meanings:
                values.append(Qualifier(meanings, mode not in ("", "like")))
            else:
                before, after = before or not mode, after or bool(mode)
        elif token.letter in "BaWfTr" or (token.letter == "O" and values):
            mode = "like" if token.text == "like" else token.letter
            after = after or token.letter in "fTr"
        elif token.letter in "jUDG":
            behind = place > head >= 0 and token.letter != "G"  # in "sad songs", "sad" qualifies songs
            before, after = before or not behind, after or behind
    if any(token.singular for token in found) and any(token.text in ("that", "those", "the") for token in found):
        before = True  # one in particular
    asks = any(token.text in ASKING for token in found)
    return Item(tuple(values), before, after, joint, letters.strip("h") == "V", asks, letters.endswith("h"))


def _counts(role: str, mode: str, rest: str, so_far: str) -> bool:
    """Returns whether a value of a role counts behind the preposition `mode`, before the letters `rest`.

    The kind of an item is the head of the phrase: it counts at the end of a row of nouns.
    """
    if re.match("[jU]+V", rest):
        return role != "kind" and not mode
    ends = not re.match("[jU]", rest)
    match role:
        case "kind":
            return mode in ("", "like") and not re.match("[VjUG]", rest) and not re.search("g[hdj]*$", so_far)
        case "by":
            return mode in ("", "B", "O") and ends
        case "mood":
            return not mode and ends
        case _:
            return mode in ("", "a", "W") and ends
