"""Synthetic prompts and item descriptions, made from the columns of the catalogue by templates.

A prompt is true of its target: "something calm, no podcasts" stands before an item whose mood is calm and which is not
a podcast. Some templates are held out of training, so that an evaluation tells understanding from memorization.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from genrec import config, settings_check
from genrec.data.cells import value_sets
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError

Option = TypeVar("Option")

ROLES = ("kind", "mood", "about", "by", "words")
UNCOUNTABLE = ("music",)
POPULARITY_SMOOTHING = 4.0  # added to the number of times that an item was chosen


class Templates(NamedTuple):
    """Texts in which "{}" stands for a value."""

    positive: dict[str, tuple[str, ...]]  # by role, asking for a value
    negative: tuple[str, ...]  # refusing a value
    similar: tuple[str, ...]  # asking for items like a title
    combined: tuple[str, ...]  # asking for several values in one phrase
    fillers: tuple[str, ...] = ()  # words without meaning that may surround a value, in any order


# Texts before and after a value, "|" between them. There are many, so that the model learns to ignore them.
LEAD_INS = "|play|I want|give me|some|find|I would like|let me have|time for|I am up for|how about|only"
# Words that negate nothing by themselves also occur in positive prompts: a "with" seen in refusals alone would negate.
NEGATIVE_LEAD_INS = "|please|I want|today|thank you,|for now"
ENDINGS = "|||please|today|for a while|this morning|again|if you can|on my way home|right away"
NEGATIONS = (
    "no|not|less|no more|never|without|anything but|tired of|bored with|enough of|spare me|stop playing|skip|avoid"
)
# More ways to refuse a value, which no lead-in suits.
REFUSALS = (
    "I hate {}|I dislike {}|I don't want {}|I don't like {}|don't play {}|don't give me {}|please not {}|"
    "sick of {}|fed up with {}|can't stand {}|anything other than {}|something other than {}|instead of {}|"
    "rather than {}|except {}|apart from {}|leave out {}|keep away from {}|get rid of {}|drop the {}|"
    "without any {}|none of that {}|nothing by {}|nothing about {}|not by {}|not about {}|that isn't {}|"
    "not {} again|no {} for me|too much {}|enough {}|fewer {}|much less {}|{} is boring|{} are boring|"
    "{} bores me|{} is not for me|{}, no thanks|I am over {}"
)
# Negations that refuse nothing.
AFFIRMATIONS = (
    "nothing but {}|not just {}|not only {}|why not {}|don't stop the {}|I don't mind {}|can't get enough of {}|"
    "never too much {}"
)
# Words of refusals that refuse nothing by themselves: as fillers they are in positive prompts too.
NEUTRAL = (
    "is are the of for to that this from any thanks by about with give get much am over again keep away out up stand "
    "want like just"
).split()
HELD_OUT_NEGATIVE = "kindly spare me {}|I have had enough of {}|you should stop playing {}|there should be no {} in it"


def _expand(cores: str, lead_ins: str = LEAD_INS) -> tuple[str, ...]:
    """Returns every core between every lead-in and every ending; "|" separates the alternatives."""
    every = (f"{a} {core} {b}" for core in cores.split("|") for a in lead_ins.split("|") for b in ENDINGS.split("|"))
    return tuple(" ".join(text.split()) for text in every)


_POSITIVE = {
    "kind": _expand("{}|more {}"),
    "mood": (*_expand("something {}|{} things|a {} one"), "I feel {}", "make it {}", "{}"),
    "about": _expand("something about {}|something with {}|{}|more {}|anything on {}"),
    "by": (*_expand("something by {}|{}|more from {}|works of {}"), "I love {}"),
    "words": (*_expand("{}|something with {}"), "I am looking for {}"),
}
_AFFIRMING = _expand(AFFIRMATIONS, lead_ins="")
TRAINING = Templates(
    positive={role: (*some, *_AFFIRMING) for role, some in _POSITIVE.items()},
    negative=(
        *_expand("|".join(f"{negation} {{}}" for negation in NEGATIONS.split("|")), NEGATIVE_LEAD_INS),
        *_expand(REFUSALS, "|||||"),  # each as often as a negation
    ),
    similar=("like {}", "something like {}", "similar to {}", "more like {}", "I enjoyed {}"),
    combined=_expand("{}"),
    # Templates alone would be memorized: words in random order teach that none of them matters.
    fillers=tuple(
        sorted({*NEUTRAL, *re.findall(r"\w+", " ".join([NEGATIVE_LEAD_INS, *itertools.chain(*_POSITIVE.values())]))})
    ),
)
HELD_OUT = Templates(
    positive={
        "kind": ("could you find me {}?", "what {} can I listen to next?", "I am in the mood for {} tonight"),
        "mood": ("I need something really {} tonight", "do you have anything {}?", "let it be {} now"),
        "about": ("what is there on {}?", "do you have anything that deals with {}?", "I could do with {} now"),
        "by": ("what else did {} make?", "put on {} for me", "let me hear {} once more"),
        "words": ("do you have {}?", "I need {} next", "show me {}"),
    },
    negative=tuple(HELD_OUT_NEGATIVE.split("|")),
    similar=("in the vein of {}", "what goes well with {}?"),
    combined=("could you find me {}?", "I could do with {} now"),
)
FRAGMENTS = {"kind": "{}", "mood": "{}", "about": "about {}", "by": "by {}", "words": "with {}"}
JOINTS = (", ", " but ", ", but ", " and ", " ")  # between what is asked for and what is refused
TURNS = ("but", "just", "play", "I want", "give me")  # after a comma, from what is refused to what is asked for
LISTS = (" or ", " and ", " nor ", ", ")  # between values that are refused together
ORDER = {"mood": 0, "kind": 1, "about": 2, "words": 3, "by": 4}  # of the values in a phrase


def parse_columns(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (name, role) for each "COLUMN:ROLE", such as "media_type:kind"; raises ConfigError for other texts."""
    found = []
    for text in columns:
        name, _, role = text.partition(":")
        if role not in ROLES:
            raise config.ConfigError(f"prompts.columns: {text!r}: write COLUMN:ROLE, a role of {', '.join(ROLES)}")
        found.append((name, role))
    return found


def surface_form(role: str, value: str, singular: bool = False) -> str:
    """Returns a value as prompts write it: "podcast" of the role "kind" as "podcasts", unless it is `singular`."""
    value = value.replace("_", " ")
    if role == "kind" and not singular and value not in UNCOUNTABLE and not value.endswith("s"):
        return f"{value}s"
    return value


class PromptSampler:
    """Samples prompts for items of a catalogue, and describes items and histories."""

    def __init__(self, cfg: config.Prompts, catalogue: Catalogue, popularity: np.ndarray | None = None):
        """Reads the columns; `popularity` int[items] is how often each item was chosen, by default equally often.

        Raises DataError for a column that the catalogue does not have.
        """
        self.cfg, self.columns, self.titles = cfg, parse_columns(cfg.columns), catalogue.titles
        self.values: dict[str, list[tuple[str, ...]]] = {}  # column -> values of each item, several in lists alone
        self.members: dict[str, dict[str, np.ndarray]] = {}  # column -> value -> catalogue rows
        for name, role in self.columns:
            self.values[name] = value_sets(catalogue.column(name))
            if role != "words":
                rows: dict[str, list[int]] = {}
                for row, values in enumerate(self.values[name]):
                    for value in values:
                        rows.setdefault(value, []).append(row)
                self.members[name] = {value: np.array(found) for value, found in sorted(rows.items())}
        weight = np.ones(len(catalogue)) if popularity is None else popularity + POPULARITY_SMOOTHING
        self._weight = np.sqrt(weight)  # flattened, so that rare items are prompted for too
        self._cumulative = np.cumsum(self._weight)

    def positive(self, name: str, value: str, random: np.random.Generator, templates: Templates = TRAINING) -> str:
        """Returns a prompt for a value of a column."""
        role = dict(self.columns)[name]
        form = surface_form(role, value)
        if templates is TRAINING and form != surface_form(role, value, singular=True) and random.random() < 0.2:
            form = f"a {surface_form(role, value, singular=True)}"
        return _filled_in(templates.positive[role], form, templates, random)

    def negative(
        self, name: str, value: str, random: np.random.Generator, templates: Templates = TRAINING, other: str = ""
    ) -> str:
        """Returns a prompt against a value of a column, or against it and an `other` one."""
        forms = [surface_form(dict(self.columns)[name], refused) for refused in (value, other) if refused]
        return _filled_in(templates.negative, _pick(LISTS, random).join(forms), templates, random)

    def for_item(self, item: int, history: np.ndarray, random: np.random.Generator) -> str:
        """Returns a prompt of any kind that an item fulfills after a history; "" where no column describes the item."""
        kind = random.random()
        if kind < 0.1:
            return self._similar(item, random)
        refusal = self._refusal(item, history, random) if kind < 0.4 else ""
        if refusal and kind < 0.25:
            return refusal
        wanted = self._several(item, random) if random.random() < 0.35 else self._one(item, random)
        if not refusal or not wanted:
            return wanted
        if random.random() < 0.3:
            return f"{refusal}, {_pick(TURNS, random)} {wanted}"
        return f"{wanted}{_pick(JOINTS, random)}{refusal}"

    def any_item(self, history: np.ndarray, random: np.random.Generator) -> tuple[int, str]:
        """Returns an item, independent of the history, and a prompt that it fulfills."""
        if random.random() < 0.2 and len(history):
            return self._avoiding(history, random)
        if not self.members or random.random() < 0.4:  # an item by popularity, with anything that describes it
            item = self._draw(None, random)
            return item, self._several(item, random) if random.random() < 0.5 else self._one(item, random)
        # The values of a column are drawn uniformly: rare ones must be understood too. A column of many values needs
        # more prompts than one of few.
        sizes = np.cbrt([len(values) for values in self.members.values()])
        name = list(self.members)[_place(np.cumsum(sizes), random)]
        value = _pick(list(self.members[name]), random)
        return self._draw(self.members[name][value], random), self.positive(name, value, random)

    def attributes(self, item: int, random: np.random.Generator) -> str:
        """Returns a prompt of two to four attributes of an item, or of as many as it has."""
        return self._several(item, random)

    def description(self, item: int) -> str:
        """Returns all attributes of an item as a phrase, without words of its title."""
        return _phrase([(role, value) for _, role, value in self._attributes(item) if role != "words"])

    def taste(self, history: np.ndarray) -> str:
        """Describes a history by its most frequent values of each column, where they are frequent."""
        lines = []
        for name, role in self.columns:
            if role == "words":
                continue
            values, counts = np.unique([v for item in history for v in self.values[name][item]], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:2]
            common = [surface_form(role, str(values[i])) for i in order if counts[i] >= max(2, 0.2 * len(history))]
            if common:
                lines.append({"by": "by ", "mood": "mood: "}.get(role, "") + " and ".join(common))
        return "; ".join(lines)

    def _attributes(self, item: int) -> list[tuple[str, str, str]]:
        """Returns (name, role, value) of each value that the item has in a column."""
        return [(name, role, value) for name, role in self.columns for value in self.values[name][item]]

    def _one(self, item: int, random: np.random.Generator) -> str:
        attributes = self._attributes(item)
        if not attributes:
            return ""
        name, role, value = _pick(attributes, random)
        return self.positive(name, _some_words(value, random) if role == "words" else value, random)

    def _several(self, item: int, random: np.random.Generator) -> str:
        attributes = self._attributes(item)
        if len(attributes) < 2:
            return self._one(item, random)
        number = int(random.integers(2, min(4, len(attributes)) + 1))
        chosen = [attributes[place] for place in random.permutation(len(attributes))[:number]]
        parts = [(role, _some_words(value, random) if role == "words" else value) for _, role, value in chosen]
        if random.random() < 0.3:  # a list in any order
            return _fill(
                _pick(TRAINING.combined, random), _pick((", ", " and ", " "), random).join(map(_fragment, parts))
            )
        return _fill(_pick(TRAINING.combined, random), _phrase(parts, singular=random.random() < 0.3))

    def _similar(self, item: int, random: np.random.Generator) -> str:
        """Returns a prompt for items like the title of another item that shares a value with this one."""
        shared = [(n, v) for n, role, v in self._attributes(item) if role in ("about", "by")]
        shared = [(n, v) for n, v in shared if len(self.members[n][v]) > 1]
        if not shared:
            return self._one(item, random)
        name, value = _pick(shared, random)
        others = self.members[name][value]
        return _fill(_pick(TRAINING.similar, random), self.titles[int(_pick(others[others != item], random))])

    def _refusal(self, item: int, history: np.ndarray, random: np.random.Generator) -> str:
        """Returns a prompt against a value of recent items that this item lacks; "" where there is none."""
        had = [
            (name, value)
            for name in self.members
            for other in history[-5:]
            for value in self.values[name][other]
            if value not in self.values[name][item]
        ]
        if not had:
            return ""
        name, value = _pick(had, random)
        others = [other for column, other in had if column == name and other != value]
        other = _pick(others, random) if others and random.random() < 0.2 else ""
        return self.negative(name, value, random, other=other)

    def _avoiding(self, history: np.ndarray, random: np.random.Generator) -> tuple[int, str]:
        """Returns an item and a prompt against a value of the history, or, after 8 tries, any prompt for the item."""
        for _ in range(8):
            item = self._draw(None, random)
            if text := self._refusal(item, history, random):
                return item, text
        return item, self._one(item, random)

    def _draw(self, rows: np.ndarray | None, random: np.random.Generator) -> int:
        """Draws one of some catalogue rows, by default of all, by popularity."""
        cumulative = self._cumulative if rows is None else np.cumsum(self._weight[rows])
        place = _place(cumulative, random)
        return place if rows is None else int(rows[place])


def check(cfg: config.Prompts, catalogue: Catalogue) -> None:
    """Raises ConfigError for invalid settings, and for columns and rules that the catalogue lacks."""
    settings_check.check(cfg, "prompts")
    names = [name for name, _ in parse_columns(cfg.columns)]
    if cfg.bias and all(role == "words" for _, role in parse_columns(cfg.columns)):
        raise config.ConfigError("prompts.bias=True: prompts.columns needs a column of another role than words")
    for name in [*names, *cfg.rules]:
        try:
            catalogue.column(name)
        except DataError as problem:
            raise config.ConfigError(f"prompts: {problem}") from problem


def training_texts(catalogue: Catalogue, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Returns texts that contain all words of the prompts in training."""
    roles = {role for _, role in columns}
    fragments = ", ".join(FRAGMENTS[role] for role in sorted(roles)).replace("{}", " ") + ","
    found = [*catalogue.titles, fragments, " ".join((*JOINTS, *TURNS, *LISTS)), " a "]
    for name, role in columns:
        values = [value for values in value_sets(catalogue.column(name)) for value in values]
        found += [surface_form(role, value, singular) for value in values for singular in (False, True)]
    return found + _words_of(TRAINING, roles)


def vocabulary_texts(catalogue: Catalogue, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Returns the texts from which a vocabulary is trained: of training, of the catalogue, and held-out templates."""
    return [*training_texts(catalogue, columns), *catalogue.texts, *_words_of(HELD_OUT, ROLES)]


def _words_of(templates: Templates, roles: Iterable[str]) -> list[str]:
    """Returns the templates of some roles without values, repeated so that each of their words becomes one piece."""
    found = []
    of_roles = [templates.positive[role] for role in sorted(roles)]
    for some in (*of_roles, templates.negative, templates.similar, templates.combined):
        found += [text.replace("{}", " ") for text in some] * (1 + 60 // len(some))
    return [*found, *templates.fillers]


def _phrase(attributes: Sequence[tuple[str, str]], singular: bool = False) -> str:
    """Returns (role, value) pairs as a phrase: "calm podcasts about jazz by Ada Costa", or "calm podcast ..."."""
    ordered = sorted(attributes, key=lambda attribute: ORDER[attribute[0]])
    return " ".join(_fragment(attribute, singular) for attribute in ordered)


def _fragment(attribute: tuple[str, str], singular: bool = False) -> str:
    role, value = attribute
    return _fill(FRAGMENTS[role], surface_form(role, value, singular))


def _some_words(text: str, random: np.random.Generator) -> str:
    """Returns one to three consecutive words of a title."""
    words = text.split()
    number = min(int(random.integers(1, 4)), len(words))
    first = int(random.integers(0, len(words) - number + 1))
    return " ".join(words[first : first + number])


def _pick(options: Sequence[Option] | np.ndarray, random: np.random.Generator) -> Option:
    return options[int(random.integers(len(options)))]


def _place(cumulative: np.ndarray, random: np.random.Generator) -> int:
    """Draws an index by cumulative weights."""
    return min(int(np.searchsorted(cumulative, random.random() * cumulative[-1])), len(cumulative) - 1)


def _filled_in(options: Sequence[str], value: str, templates: Templates, random: np.random.Generator) -> str:
    """Returns one of the templates with a value; where there are fillers, half of the time among some of them."""
    text = _fill(_pick(options, random), value)
    if not templates.fillers or random.random() < 0.5:
        return text
    before, after = ([_pick(templates.fillers, random) for _ in range(random.integers(0, 4))] for _ in range(2))
    return " ".join([*before, text, *after])


def _fill(template: str, text: str) -> str:
    return template.replace("{}", text)
