"""The grammar of prompts: which clauses ask for values of the catalogue, which refuse them, and which do neither.

What is not sure does neither: it is taste, for the model. A prompt is split into clauses, at punctuation, at "but",
"because", "if" and the like, at "and", "or" and commas where a clause begins, and before "not", "no" and "except" where
they follow what was asked for: "music, not podcasts" has two.

A clause asks ("only") if nothing in it refuses, doubts or reports, and it is one of

* a noun phrase: "music", "a podcast about history", "something calm", "calm music by Ada Costa", "podcasts only";
* a noun phrase as the object of asking: "play ...", "give me ...", "I want ...", "I would like to hear ...",
  "how about ...", "do you have ...?", "what ... can I hear?", "only ...", "nothing but ...".

In a noun phrase, a kind of item has to be the head: "music videos" names no music, "podcasts about music" are podcasts.
What is liked or told ("I love podcasts", "I listen to podcasts") is taste.

A clause refuses ("not") if exactly one word of refusal or aversion in it stands before a list of noun phrases ("no",
"not", "never", "without", "hate", "sick of", "skip", "except", "anything but", "instead of"), or after one ("podcasts
are boring", "podcasts? no thanks"); the subject, if any, is I or we. It refuses all in the list: "no podcasts,
audiobooks or true crime". Two such words make no rule ("I don't mind", "don't stop the music"), nor does a question
("why not podcasts?"), a condition, a report of others or of the past. What qualifies a value narrows what is refused:
"no sad music" refuses items that are sad and music, and "no long podcasts" nothing, as no column says what is long.
"Less" and its like make no rule.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from genrec.serving import prompt_words
from genrec.serving.prompt_words import ASKING, BLOCKING, NEGATIVE, NEW_PHRASE, Word

ONLY, NOT, LESS = "only", "not", "less"


class Meaning(NamedTuple):
    """A value that words can mean."""

    column: str
    role: str  # kind, mood, about or by
    value: str


# Words and a place among them -> how many words from there name a value, its meanings, whether it is a singular.
ValuesAt = Callable[[Sequence[Word], int], tuple[int, tuple[Meaning, ...], bool]]


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


class Statement(NamedTuple):
    """Statement of a clause: the items that it asks for or refuses."""

    kind: str  # ONLY, NOT or LESS
    items: tuple[Item, ...]
    start: int  # its place in the prompt
    stop: int


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


_ASKING = re.compile(
    r"[hcb]*(?P<prefix>(?:i[hXo]*)?w(?:[hoX]|T[vx]|[vxL])*|(?:H[ho]*)?[vx][ho]*L?[ho]*|K[ho]*|A[ho]*"
    r"|i[hX]*o[hX]*[vxwlLf]T?[hvx]*|)(?P<phrase>[dDgGjUVBaWOhof].*)"
)
_WHICH = re.compile(r"[hcb]*q[jU]{0,2}(?P<phrase>V+)[XHAxh]")
# The first noun phrase of what is asked for: with a head, or by a preposition alone.
_HEADED = re.compile(r"[hodDO]*(?:gf[hdDU]*|g[hdD]*)?(?P<before>[jUV]*)V[gG]?(?P<rest>.*)")
_HEADLESS = re.compile(r"[hodD]*[gG]?h*[BaWO][dDh]*(?P<before>)V(?P<rest>.*)")
_REST = re.compile(r"[oh]*(?:$|[BaWOfTr,c])")
_LIST = r"(?P<phrase>[dgGjUVBaWOfT,ch]*V.*)"
_REFUSING = (
    (NOT, re.compile(r"[hcbiXHwolfTvxgrWOK]*n(?:[hXwlfTvxLdgBaWOrb]*?)" + _LIST)),
    (NOT, re.compile(r"[hcbiXHwolfTvxgrWOK]*N(?:[hdgBaWOL]*?)" + _LIST)),
    (NOT, re.compile(r"[hcbiXHwoTgrK]*m(?:(?:[hdgBaWOL]|T[vxw])*?)" + _LIST)),
    (NOT, re.compile(r"[hcb]*[eEC][hL]*" + _LIST)),
    (LESS, re.compile(r"[hcbiXHwovxgTK]*s[hdgBaWOL]*?" + _LIST)),
    (NOT, re.compile(r"[hcb]*(?P<phrase>[dgjUVBaW,c]*V[gBaWUjdV]*)h*(?:X+h*)?Mh*$")),
    (NOT, re.compile(r"[hcb]*ih*x(?P<phrase>[dgjUV,c]*V[gBaWUjdV]*)h*X*h*Mh*$")),
    (NOT, re.compile(r"[hcb]*(?P<phrase>[dgjUV,c]*V[gBaWUjdV]*),?i[hX]*mh*$")),
)
_IN_LISTS = "dDgGjUVBaWOfTrh,c"
# Complaints ("I can't hear the podcasts"), reports ("I play no podcasts") and questions.
_UNSURE = re.compile(r"i[hX]*nh*[xL]|i[hX]*[vx][hX]*N|A.*[Nn]|[hcb]*r|[hcb]*X(?!nh*[vwxlLf])")
_REFERS_BACK = re.compile(r"[hcb]*i?[hX]*(?:[nNZ]+[hXwfvT]*|m[hv]*|X*h*M)[htdi]*")
_BARE_NO = re.compile(r"[hcb]*(?:[nNZ]+|m)h*")
_WITHOUT_OBJECT = re.compile(r"[^UVg]*[nm][^UVg]*")  # "do not, under any circumstances, ..."
_BARE = re.compile(r"[hcb]*K?[hdgGjUVBaWOf,c]*V[hgG]*")
_PARTICULAR = ("a", "an", "those", "that", "many", "much", *NEW_PHRASE)  # "some podcasts are boring" refuses nothing


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
        if meanings and length >= phrase:
            letter = prompt_words.VALUE
        else:
            length, meanings, singular = phrase, (), False
        if length < joined:
            made += _hyphenated(found[first : first + joined], values_at)
            length = joined
        else:
            read = found[first : first + length]
            text = " ".join(word.text for word in read)
            made.append(Token(letter, text, read[0].start, read[-1].stop, meanings, singular))
        first += length
    return made


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
        if letter in ",c" and _continues(letters, found, place):
            if letter == "c" and letters.endswith(","):
                current.pop()
            current.append(token)
            continue
        if letter in NEGATIVE and token.text != "not" and current and current[-1].text == token.text:
            continue  # "no no no podcasts"
        refuses = letter in "nNZ" and re.search("V[hgGj]*[Wr]?$", letters) and not re.search("[nNmMXqRP]", letters)
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
            before, after = before or place < head or head < 0, after or place > head
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


def statements(found: Sequence[Token]) -> list[tuple[Clause, Statement | None]]:
    """Returns the clauses of a prompt, each with what it asks for or refuses, if that is sure."""
    read = clauses(found)
    made = [_statement(clause) for clause in read]
    silent = incomplete = False  # to the end of a sentence: conditional or a report; after a refusal without an object
    for place, clause in enumerate(read):
        begins = clause.joint in ".?"
        silent, incomplete = (silent and not begins) or clause.has("FR"), incomplete and not begins
        asked = made[place]
        if silent or (incomplete and asked is not None and asked.kind == ONLY and not _asks(clause)):
            made[place] = None
        incomplete = incomplete or _WITHOUT_OBJECT.fullmatch(clause.letters) is not None
        if place == 0:
            if clause.letters[0] == "C":
                made[0] = None  # "besides podcasts, I like music"
            continue
        if clause.letters[0] == "F" and not clause.comma:
            made[place - 1] = None
        elif clause.letters[0] in "eEC":
            _relate_exception(read, made, place)
        elif clause.joint == "b" and made[place] is not None:
            _relate_contrast(read, made, place)
        elif clause.joint == "Y" and _BARE.fullmatch(clause.letters):
            made[place] = None
        else:
            _relate_answer(read, made, place)
    return list(zip(read, made, strict=True))


def _statement(clause: Clause) -> Statement | None:
    """Returns what a clause by itself asks for or refuses."""
    letters = clause.letters
    negative = sum(letter in NEGATIVE for letter in letters)
    if not negative:
        return _asked(clause, letters)
    if (
        clause.has(BLOCKING)
        or negative > 1
        or "u" in letters
        or (clause.letters[0] not in "eEC" and _UNSURE.match(letters))
    ):
        return None
    if clause.question and not clause.has("HeECK"):
        return None
    for kind, pattern in _REFUSING:
        if not (refusal := pattern.fullmatch(letters)):
            continue
        first, stop = refusal.span("phrase")
        if letters[first] == "f" and clause.tokens[first].text == "like":
            first += 1  # a verb
        phrase = clause.tokens[first:stop]
        subject = letters[0:first].strip("hcb") == "" and "M" in letters[stop:]
        if any(token.letter not in _IN_LISTS for token in phrase):
            return None
        if subject and any(token.text in _PARTICULAR for token in phrase):
            return None
        return Statement(kind, items(phrase), clause.tokens[0].start, clause.tokens[-1].stop)
    return None


def _asked(clause: Clause, letters: str) -> Statement | None:
    """Returns what a clause without a negation asks for."""
    if clause.has(BLOCKING):
        asked = _WHICH.match(letters)
        if asked is None or sum(letter in BLOCKING for letter in letters.replace("q", "", 1)):
            return None
        if not any(token.text in ("what", "which") for token in clause.tokens):
            return None
    else:
        asked = _ASKING.fullmatch(letters)
        if asked is None or not _is_asked(asked["phrase"], bare=not asked["prefix"]):
            return None
    phrase = clause.tokens[asked.start("phrase") : asked.end("phrase")]
    return Statement(ONLY, items(phrase), clause.tokens[0].start, clause.tokens[-1].stop)


def _is_asked(phrase: str, bare: bool) -> bool:
    """Returns whether letters begin with a noun phrase, `bare` if no word of asking stands before them."""
    found = _HEADLESS.fullmatch(phrase) or _HEADED.fullmatch(phrase)
    if found is None or not _REST.match(found["rest"]):
        return False
    unknown = found["before"].count("U")
    statement = re.search("[XilvxwLMt]", found["rest"].partition("r")[0])
    return unknown <= 3 and not (bare and (unknown or statement))


def _relate_exception(read: Sequence[Clause], made: list[Statement | None], place: int) -> None:
    """Keeps the refusal of "except", "other than" and "instead of" only where what stands before them allows it."""
    clause, left = read[place], read[place - 1]
    first = clause.tokens[0]
    if clause.comma or clause.joint in ".?:":
        if first.letter == "C":
            made[place] = None
        return
    known = re.fullmatch("[^U]*(?:[vwxK][^U]*U.*)?", left.letters)
    if left.has(NEGATIVE + BLOCKING) or not known:
        made[place] = None
        if first.letter != "E":
            made[place - 1] = None
    elif first.letter == "C" and not re.search("gh*$" if first.text != "other than" else "[gV]h*$", left.letters):
        made[place] = None


def _relate_contrast(read: Sequence[Clause], made: list[Statement | None], place: int) -> None:
    """Decides what a noun phrase after "but" is: asked for, or an exception ("all podcasts but true crime")."""
    clause, statement, before = read[place], made[place], made[place - 1]
    if statement is None or statement.kind != ONLY or clause.comma or not _BARE.fullmatch(clause.letters):
        return
    if before is None or before.kind == ONLY:
        made[place] = None
    elif read[place - 1].has("N") and not _columns(before) & _columns(statement):
        made[place - 1] = made[place] = None


def _columns(statement: Statement) -> set[str]:
    return {one.column for item in statement.items for value in item.values for one in value.meanings}


def _relate_answer(read: Sequence[Clause], made: list[Statement | None], place: int) -> None:
    """Relates a clause such as "no thanks" or "I hate them" to the noun phrase before it, which it refuses."""
    clause = read[place]
    back = place - 1
    while back and re.fullmatch("[hcb]*", read[back].letters):
        back -= 1
    before = made[back]
    if clause.question or clause.has("VU"):
        if made[place] is not None and _BARE_NO.fullmatch(read[back].letters) and _BARE.fullmatch(clause.letters):
            referred = back and made[back - 1] is not None
            if not referred and not _asks(clause):
                made[place] = None  # "no, podcasts"
        if _turns_away(clause, read[place - 1]) and made[place] is None and not clause.has("V"):
            made[place - 1] = None  # "podcasts not welcome"
        elif made[place] is None and clause.has("t") and clause.has(NEGATIVE + BLOCKING + "U") and not clause.has("lV"):
            made[back] = None  # "podcasts, my wife hates them"
    elif clause.has("s") or (clause.has("t") and clause.has(BLOCKING)):
        made[back] = None  # "podcasts, not so much", "podcasts? who needs them"
    elif _REFERS_BACK.fullmatch(clause.letters):
        if before is not None and before.kind == ONLY:
            refuses = clause.joint != "c" and _BARE.fullmatch(read[back].letters)
            made[back] = before._replace(kind=NOT) if refuses else None
    elif _turns_away(clause, read[place - 1]):
        made[place - 1] = None


def _turns_away(clause: Clause, before: Clause) -> bool:
    """Returns whether a clause with "not" goes on directly, but not in a phrase such as "music that is not ..."."""
    return clause.joint == "n" and clause.letters[0] == "n" and before.letters[-1] not in "Wr"


def _asks(clause: Clause) -> bool:
    return any(token.text in ASKING for token in clause.tokens)
