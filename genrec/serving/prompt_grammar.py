"""The grammar of prompts: which clauses ask for values of the catalogue, which refuse them, and which do neither.

What is not sure does neither: it is taste, for the model. A clause that names a value beside a word of refusal, and of
which no refusal follows, is "unsure" ("my wife hates jazz"): the model had better not hear it, since to the model words
that it does not know ask for what they name. `genrec.serving.prompt_clauses` splits a prompt into clauses.

A clause asks ("only") if nothing in it refuses, doubts or reports, and it is one of

* a noun phrase: "music", "a podcast about history", "something calm", "calm music by Ada Costa", "podcasts only";
* a noun phrase as the object of asking: "play ...", "give me ...", "I want ...", "I would like to hear ...",
  "how about ...", "do you have ...?", "what ... can I hear?", "only ...", "nothing but ...".

In a noun phrase, a kind of item has to be the head: "music videos" names no music, "podcasts about music" are podcasts.
What is liked or told ("I love podcasts", "I listen to podcasts") is taste.

A clause refuses ("not") if exactly one word of refusal or aversion in it stands before a list of noun phrases ("no",
"not", "never", "without", "hate", "sick of", "skip", "except", "anything but", "instead of"), or after one ("podcasts
are boring", "podcasts? no thanks"); the subject, if any, is I or we. It refuses all in the list: "no podcasts,
audiobooks or true crime"; after "not" only with "or", since "not jazz, metal" may ask for metal. Two such words make no
rule ("I don't mind", "don't stop the music"), nor does a question ("why not podcasts?"), a condition, a report of
others or of the past. What qualifies a value narrows what is refused: "no sad music" refuses items that are sad and
music, and "no long podcasts" nothing, as no column says what is long. "Less" and its like make no rule.

A mere noun phrase is doubted, and makes no rule, if the next clause comments on it ("podcasts, you must be joking",
"podcasts? I'd rather die") or the one before introduces it as something unknown ("my pet peeve: podcasts"). Nor does a
phrase with an unknown word that may be a verb ("deleting podcasts", "music lacking jazz") or a misspelt refusal
("everything exept podcasts").
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from genrec.serving.prompt_clauses import Clause, Item, Token, clauses, items
from genrec.serving.prompt_words import AFFIRMATIONS, ASKING, BLOCKING, NEGATIVE, NEW_PHRASE, OTHERS_REFUSE

ONLY, NOT, LESS, UNSURE = "only", "not", "less", "unsure"


class Statement(NamedTuple):
    """Statement of a clause: the items that it asks for or refuses; none if it is unsure which."""

    kind: str  # ONLY, NOT, LESS or UNSURE
    items: tuple[Item, ...]


_ASKING = re.compile(
    r"[hcb]*(?P<prefix>(?:i[hXo]*)?w(?:[hoX]|T[vx]|[vxL])*|(?:i?[hX]*H[ho]*)?[vx][ho]*L?[ho]*|K[ho]*L?|A[ho]*"
    r"|i[hX]*o[hX]*[vxwlLf]T?[hvx]*|)(?P<phrase>[dDgGjUVBaWOhof].*)"
)
_WHICH = re.compile(r"[hcb]*q[jU]{0,2}(?P<phrase>V+)[XHAxh]")
# The first noun phrase of what is asked for: with a head, or by a preposition alone.
_HEADED = re.compile(r"[hodDO]*(?:gf[hdDU]*|g[hdD]*(?!j*U))?(?P<before>[jUV]*)V[gG]?(?P<rest>.*)")
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
    (NOT, re.compile(r"[hcbiXHwoTK]*p(?P<phrase>[dgjV,c]*V[gBaWjdV]*)h*[kM](?:[BOaf]?[dDiUGgt]*)h*$")),
)
_NEGATIONS = frozenset("no not never nothing none without except".split())
_IN_LISTS = "dDgGjUVBaWOfTrh,c"
# Complaints ("I can't hear the podcasts"), reports ("I play no podcasts") and questions.
_UNSURE = re.compile(r"i[hX]*nh*[xL]|i[hX]*[vx][hX]*N|A.*[Nn]|[hcb]*r|[hcb]*X(?!nh*[vwxlLf])")
_REFERS_BACK = re.compile(r"[hcb]*i?[hX]*(?:[nNZ]+[hXwfvT]*|m[hv]*|X*h*M)[htdi]*")
_ASKING_BACK = re.compile(r"[hcbvwxiXoHT]*[gdt]h*")
_ALL = ("any", "every", "all ", "whatever")
_PRONOUNS = ("one", "some", "it", "them", "those", "two", "a few")
_BARE_NO = re.compile(r"[hcb]*(?:[nNZ]+|m)h*")
_WITHOUT_OBJECT = re.compile(r"[^UV]*[nm][^UV]*")  # "do not, under any circumstances, ...", "what I hate most, ..."
_BARE = re.compile(r"[hcb]*K?[hdgGjUVBaWOf,c]*V[hgG]*")
_FURTHER = ("more", "no more", "any more", "not any more", "no further", "further")
_PARTICULAR = ("a", "an", "those", "that", "many", "much", *NEW_PHRASE)  # "some podcasts are boring" refuses nothing


def statements(found: Sequence[Token]) -> list[tuple[Clause, Statement | None]]:
    """Returns the clauses of a prompt, each with what it asks for or refuses; None for those that tell a taste."""
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
        elif place == 1 and read[0].letters[0] == "e" and clause.has("nNmM"):
            made[0] = None  # "except for podcasts, I hate everything"
        elif clause.joint == "N" and clause.tokens[0].text == "without" and made[place - 1] is None:
            made[place] = None  # "I am sad without music"
        elif clause.letters[0] in "eEC":
            _relate_exception(read, made, place)
        elif clause.joint == "b" and made[place] is not None:
            _relate_contrast(read, made, place)
        elif clause.joint == "Y" and _BARE.fullmatch(clause.letters):
            made[place] = None
        else:
            _relate_answer(read, made, place)
    for place, clause in enumerate(read):
        if made[place] is None and _may_refuse(clause, read[place + 1 : place + 2]):
            made[place] = Statement(UNSURE, ())
    return list(zip(read, made, strict=True))


def _may_refuse(clause: Clause, following: Sequence[Clause]) -> bool:
    """Returns whether a clause names a value beside a word of refusal, which an answer to it may have instead."""
    answers = [one for one in following if not one.has("V")]
    return clause.has("V") and any(_is_negative(token) for one in (clause, *answers) for token in one.tokens)


def _is_negative(token: Token) -> bool:
    if token.letter == "u":  # "can not", but neither "not only" nor "down"
        return token.text not in AFFIRMATIONS and not _NEGATIONS.isdisjoint(token.text.split())
    return (token.letter in "nNmMesECZ" and token.text != "out") or token.text in OTHERS_REFUSE


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
        refused = items(phrase)
        if re.fullmatch("[hcb]*n[hd]*", letters[:first]) and not any(item.joint == "c" for item in refused):
            refused = refused[:1]  # "not jazz, metal": a list only with "or"
        return Statement(kind, refused)
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
        if not clause.has("HAKwvx") and _is_complaint(clause):
            return None
    phrase = clause.tokens[asked.start("phrase") : asked.end("phrase")]
    if _has_verb(phrase):
        return None
    return Statement(ONLY, items(phrase))


def _is_asked(phrase: str, bare: bool) -> bool:
    """Returns whether letters begin with a noun phrase, `bare` if no word of asking stands before them."""
    found = _HEADLESS.fullmatch(phrase) or _HEADED.fullmatch(phrase)
    if found is None or not _REST.match(found["rest"]):
        return False
    unknown = found["before"].count("U")
    statement = re.search("[XilvxwLMt]", found["rest"].partition("r")[0])
    return unknown <= 3 and not (bare and (unknown or statement))


def _is_complaint(clause: Clause) -> bool:
    """Returns whether a noun phrase may complain of what it names: "only podcasts?", "podcasts again"."""
    texts = [token.text for token in clause.tokens]
    again = "again" in texts and not set(texts) & set(ASKING)
    return again or (clause.question and _asks(clause) and texts[-1] not in ASKING)


def _has_verb(phrase: Sequence[Token]) -> bool:
    """Returns whether an unknown word in a noun phrase may be a verb: "deleting podcasts", "music lacking jazz"."""
    for place, token in enumerate(phrase):
        if token.letter in "aWBOfrT":
            return False
        if token.letter == "U" and any(one.letter == "V" for one in phrase[place:]):
            after_kind = place and any(one.role == "kind" for one in phrase[place - 1].meanings)
            if after_kind or token.text.endswith("ing"):
                return True
    return False


def _relate_exception(read: Sequence[Clause], made: list[Statement | None], place: int) -> None:
    """Keeps the refusal of "except", "other than" and "instead of" only where what stands before them allows it."""
    clause, left = read[place], read[place - 1]
    first = clause.tokens[0]
    if clause.comma or clause.joint in ".?:":
        if first.letter == "C":
            made[place] = None
        if first.letter != "E" and left.has(NEGATIVE) and not first.text.startswith(_ALL):
            made[place - 1] = made[place] = None  # "no podcasts, except true crime"
        return
    known = re.fullmatch("[^U]*(?:[vwxK][^U]*U.*)?|[hcbovK]*g[dj]*[aWB][^iXy]*", left.letters)
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


def _is_introduced(clause: Clause, introduction: Clause, statement: Statement | None) -> bool:
    """Returns whether a colon introduces a mere noun phrase by words that may refuse it: "my pet peeve: podcasts"."""
    if clause.joint != ":":
        return False
    if statement is not None:
        return statement.kind == NOT  # "no music (jazz)"
    return introduction.has(NEGATIVE + BLOCKING + "UM")


def _relate_answer(read: Sequence[Clause], made: list[Statement | None], place: int) -> None:
    """Relates a clause such as "no thanks" or "I hate them" to the noun phrase before it, which it refuses."""
    clause = read[place]
    back = place - 1
    while back and re.fullmatch("[hcb]*", read[back].letters):
        back -= 1
    before = made[back]
    if clause.question or clause.has("VU"):
        if made[place] is not None and _BARE.fullmatch(clause.letters) and not _asks(clause):
            referred = back and made[back - 1] is not None
            if _is_introduced(clause, read[back], before) or (_BARE_NO.fullmatch(read[back].letters) and not referred):
                made[place] = None  # "no, podcasts"
        if _is_doubted(read[back], clause, made[place]):
            made[back] = None
        elif _turns_away(clause, read[place - 1]) and made[place] is None and not clause.has("V"):
            made[place - 1] = None  # "podcasts not welcome"
        elif made[place] is None and clause.has("t") and clause.has(NEGATIVE + BLOCKING + "U") and not clause.has("lV"):
            made[back] = None  # "podcasts, my wife hates them"
    elif before is not None and before.kind == NOT and _ASKING_BACK.fullmatch(clause.letters):
        if any(token.text in _PRONOUNS for token in clause.tokens):
            made[back] = None  # "podcasts are boring, but play one"
    elif clause.has("s") or (clause.has("t") and clause.has(BLOCKING)):
        made[back] = None  # "podcasts, not so much", "podcasts? who needs them"
    elif _REFERS_BACK.fullmatch(clause.letters):
        after = read[place + 1 : place + 2]
        introduces = after and after[0].joint == ":" and _BARE.fullmatch(after[0].letters)  # "in: jazz, out: metal"
        if before is not None and before.kind == ONLY and not introduces:
            made[back] = before._replace(kind=NOT) if _is_refused(read[back], clause) else None
    elif _turns_away(clause, read[place - 1]) or _is_doubted(read[back], clause, made[place]):
        made[back] = None


def _is_refused(asked: Clause, clause: Clause) -> bool:
    """Returns whether a clause such as "no thanks" refuses the mere noun phrase `asked`."""
    number = asked.has("dg") and any(token.text in _FURTHER for token in clause.tokens)  # "two podcasts, no more"
    return clause.joint != "c" and _BARE.fullmatch(asked.letters) is not None and not number


def _is_doubted(asked: Clause, clause: Clause, statement: Statement | None) -> bool:
    """Returns whether a clause comments on the mere noun phrase `asked`: "podcasts, you must be joking"."""
    if not _BARE.fullmatch(asked.letters) or _asks(asked) or clause.joint not in (",", ":", "?", "Z"):
        return False
    if re.fullmatch("[hcbt]*", clause.letters):
        return False
    if asked.question:
        return not (clause.question and statement is not None)  # but not "music? podcasts?"
    if statement is not None:
        return False
    tag = "[hdDgGjU]*" if clause.joint == "," else "[hdDgGj]*"  # "music, lo-fi"
    phrase = re.fullmatch(rf"{tag}|[hdDgGjU]*[aWBO][^iXy]*", clause.letters)
    return clause.has(BLOCKING + "MmkZ") or (clause.has("U") and phrase is None)


def _turns_away(clause: Clause, before: Clause) -> bool:
    """Returns whether a clause with "not" goes on directly, but not in a phrase such as "music that is not ..."."""
    return clause.joint == "n" and clause.letters[0] == "n" and before.letters[-1] not in "Wr"


def _asks(clause: Clause) -> bool:
    return any(token.text in ASKING or token.text == "just" or token.letter == "o" for token in clause.tokens)
