"""Prompts in words, and descriptions, made from the catalogue's columns by templates.

A prompt is true of its target: "something calm, no podcasts" is said of an item whose mood is calm and which is no
podcast. Some templates are held out of training, so that an evaluation shows whether prompts are understood, and not
only recognized.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError

ROLES = ("kind", "mood", "about", "by", "words")
UNCOUNTABLE = ("music",)
COMMON = 4.0  # the popularity of an item counts as if it had been chosen this many times more


class Templates(NamedTuple):
    more: dict[str, tuple[str, ...]]  # by role, of one value
    less: tuple[str, ...]  # of one value
    like: tuple[str, ...]  # of a title
    several: tuple[str, ...]  # of a phrase of several values
    fillers: tuple[str, ...] = ()  # words that may stand around a value, in any order, and say nothing


# What may stand before and after what is prompted for, or refused. Many of both: the words around must not matter.
BEFORE = "|play|I want|give me|some|find|I would like|let me have|time for|I am up for|how about|only"
# Words that refuse nothing by themselves stand in prompts too: one "with" in refusals alone would refuse.
BEFORE_LESS = "|please|I want|today|thank you,|for now"
AFTER = "|||please|today|for a while|this morning|again|if you can|on my way home|right away"
REFUSALS = (
    "no|not|less|no more|never|without|anything but|tired of|bored with|enough of|spare me|stop playing|skip|avoid"
)


def _around(cores: str, before: str = BEFORE) -> tuple[str, ...]:
    """The cores with all that may stand before and after them; parts lie between "|"."""
    every = (f"{a} {core} {b}" for core in cores.split("|") for a in before.split("|") for b in AFTER.split("|"))
    return tuple(" ".join(text.split()) for text in every)


_MORE = {
    "kind": _around("{}|more {}"),
    "mood": (*_around("something {}|{} things|a {} one"), "I feel {}", "make it {}", "{}"),
    "about": _around("something about {}|something with {}|{}|more {}|anything on {}"),
    "by": (*_around("something by {}|{}|more from {}|works of {}"), "I love {}"),
    "words": (*_around("{}|something with {}"), "I am looking for {}"),
}
TRAINING = Templates(
    more=_MORE,
    less=_around("|".join(f"{refusal} {{}}" for refusal in REFUSALS.split("|")), BEFORE_LESS),
    like=("like {}", "something like {}", "similar to {}", "more like {}", "I enjoyed {}"),
    several=_around("{}"),
    # Templates alone would be learned by heart: only words in any order teach that none of them matters.
    fillers=tuple(sorted(set(re.findall(r"\w+", " ".join([BEFORE_LESS, *itertools.chain(*_MORE.values())]))))),
)
HELD_OUT = Templates(
    more={
        "kind": ("could you find me {}?", "what {} can I listen to next?", "I am in the mood for {} tonight"),
        "mood": ("I need something really {} tonight", "do you have anything {}?", "let it be {} now"),
        "about": ("what is there on {}?", "do you have anything that deals with {}?", "I could do with {} now"),
        "by": ("what else did {} make?", "put on {} for me", "let me hear {} once more"),
        "words": ("do you have {}?", "I need {} next", "show me {}"),
    },
    less=("kindly spare me {}", "I have had enough of {}", "you should stop playing {}", "there should be no {} in it"),
    like=("in the vein of {}", "what goes well with {}?"),
    several=("could you find me {}?", "I could do with {} now"),
)
FRAGMENTS = {"kind": "{}", "mood": "{}", "about": "about {}", "by": "by {}", "words": "with {}"}
ORDER = {"mood": 0, "kind": 1, "about": 2, "words": 3, "by": 4}  # of several values in a phrase


def parse_columns(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Names and roles, of "media_type:kind" and the like; raises ConfigError."""
    found = []
    for text in columns:
        name, _, role = text.partition(":")
        if role not in ROLES:
            raise config.ConfigError(
                f"prompts.columns: {text!r} has no role. Write COLUMN:ROLE, of {', '.join(ROLES)}."
            )
        found.append((name, role))
    return found


def spoken(role: str, value: str) -> str:
    """How a value is said: "podcast" of the role "kind" as "podcasts"."""
    value = value.replace("_", " ")
    if role == "kind" and value not in UNCOUNTABLE and not value.endswith("s"):
        return f"{value}s"
    return value


class PromptSampler:
    """Makes prompts and descriptions for a catalogue."""

    def __init__(self, cfg: config.Prompts, catalogue: Catalogue, popularity: np.ndarray | None = None):
        """`popularity` int[items]: how often each was chosen; by default all alike.

        Raises DataError for a column that the catalogue does not have.
        """
        self.columns = parse_columns(cfg.columns)
        self.titles = catalogue.titles
        self.values: dict[str, list[str | None]] = {}
        self.members: dict[str, dict[str, np.ndarray]] = {}  # column -> value -> catalogue rows
        for name, role in self.columns:
            cells = [cell or None for cell in catalogue.column(name).cast(pa.string()).to_pylist()]
            self.values[name] = cells
            if role != "words":
                rows: dict[str, list[int]] = {}
                for row, cell in enumerate(cells):
                    if cell is not None:
                        rows.setdefault(cell, []).append(row)
                self.members[name] = {value: np.array(found) for value, found in sorted(rows.items())}
        weight = np.ones(len(catalogue)) if popularity is None else popularity + COMMON
        self._weight = np.sqrt(weight)  # rare items are asked for too
        self._cumulative = np.cumsum(self._weight)

    def more(self, name: str, value: str, random: np.random.Generator, templates: Templates = TRAINING) -> str:
        """A prompt for a value of a column."""
        role = dict(self.columns)[name]
        return _said(templates.more[role], spoken(role, value), templates, random)

    def less(self, name: str, value: str, random: np.random.Generator, templates: Templates = TRAINING) -> str:
        """A prompt against a value of a column."""
        return _said(templates.less, spoken(dict(self.columns)[name], value), templates, random)

    def for_item(self, item: int, history: np.ndarray, random: np.random.Generator) -> str:
        """A prompt that the item fulfils, of any kind; "" where nothing can be said of it."""
        kind = random.random()
        if kind < 0.1:
            return self._like(item, random)
        tired = self._tired_of(item, history, random) if kind < 0.4 else ""
        if tired and kind < 0.25:
            return tired
        wanted = self._several(item, random) if random.random() < 0.35 else self._one(item, random)
        return f"{wanted}, {tired}" if tired and wanted else wanted

    def any_item(self, history: np.ndarray, random: np.random.Generator) -> tuple[int, str]:
        """An item, and a prompt that it fulfils, whatever the history says."""
        if random.random() < 0.2 and len(history):
            return self._avoiding(history, random)
        if not self.members or random.random() < 0.4:  # an item of any popularity, with all that may be said of it
            item = self._draw(None, random)
            return item, self._several(item, random) if random.random() < 0.5 else self._one(item, random)
        # Every value of a column as often as any other: rare ones must be understood too. A column of many values needs
        # more prompts than one of few.
        sizes = np.cbrt([len(values) for values in self.members.values()])
        name = list(self.members)[_place(np.cumsum(sizes), random)]
        value = _pick(list(self.members[name]), random)
        return self._draw(self.members[name][value], random), self.more(name, value, random)

    def attributes(self, item: int, random: np.random.Generator) -> str:
        """Most that the columns say of an item, as a phrase."""
        return self._several(item, random, least=2)

    def description(self, item: int) -> str:
        """All that the columns say of an item, but for words of its title."""
        return _phrase([(role, value) for _, role, value in self._known(item) if role != "words"])

    def taste(self, history: np.ndarray) -> str:
        """A history in words: the commonest values of each column, where they are common."""
        lines = []
        for name, role in self.columns:
            if role == "words":
                continue
            values, counts = np.unique([v for item in history if (v := self.values[name][item])], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:2]
            common = [spoken(role, str(values[i])) for i in order if counts[i] >= max(2, 0.2 * len(history))]
            if common:
                lines.append({"by": "by ", "mood": "mood: "}.get(role, "") + " and ".join(common))
        return "; ".join(lines)

    def _known(self, item: int) -> list[tuple[str, str, str]]:
        """Name, role and value of each column that says something of an item."""
        return [(name, role, value) for name, role in self.columns if (value := self.values[name][item])]

    def _one(self, item: int, random: np.random.Generator) -> str:
        known = self._known(item)
        if not known:
            return ""
        name, role, value = _pick(known, random)
        return self.more(name, _some_words(value, random) if role == "words" else value, random)

    def _several(self, item: int, random: np.random.Generator, least: int = 2) -> str:
        known = self._known(item)
        if len(known) < 2:
            return self._one(item, random)
        number = int(random.integers(min(least, len(known)), min(4, len(known)) + 1))
        chosen = [known[place] for place in random.permutation(len(known))[:number]]
        said = [(role, _some_words(value, random) if role == "words" else value) for _, role, value in chosen]
        return _fill(_pick(TRAINING.several, random), _phrase(said))

    def _like(self, item: int, random: np.random.Generator) -> str:
        """A prompt for what is like the title of another item that shares a value."""
        shared = [(n, v) for n, role, v in self._known(item) if role in ("about", "by")]
        shared = [(n, v) for n, v in shared if len(self.members[n][v]) > 1]
        if not shared:
            return self._one(item, random)
        name, value = _pick(shared, random)
        others = self.members[name][value]
        return _fill(_pick(TRAINING.like, random), self.titles[int(_pick(others[others != item], random))])

    def _tired_of(self, item: int, history: np.ndarray, random: np.random.Generator) -> str:
        """A prompt against a value that the history has and the item has not; "" where there is none."""
        had = [
            (name, value)
            for name in self.members
            for other in history[-5:]
            if (value := self.values[name][other]) and value != self.values[name][item]
        ]
        return self.less(*_pick(had, random), random) if had else ""

    def _avoiding(self, history: np.ndarray, random: np.random.Generator) -> tuple[int, str]:
        for _ in range(8):
            item = self._draw(None, random)
            if text := self._tired_of(item, history, random):
                return item, text
        return item, self._one(item, random)

    def _draw(self, rows: np.ndarray | None, random: np.random.Generator) -> int:
        """One of catalogue rows, by default of all, by popularity."""
        cumulative = self._cumulative if rows is None else np.cumsum(self._weight[rows])
        place = _place(cumulative, random)
        return place if rows is None else int(rows[place])


def check(cfg: config.Prompts, catalogue: Catalogue) -> None:
    """Raises ConfigError for columns, rules and weights that cannot be, before any work."""
    names = [name for name, _ in parse_columns(cfg.columns)]
    for name in [*names, *cfg.rules]:
        try:
            catalogue.column(name)
        except DataError as problem:
            raise config.ConfigError(f"prompts: {problem}") from problem
    for names_of, weights in (
        ("next_item, any_item, attributes and title", (cfg.next_item, cfg.any_item, cfg.attributes, cfg.title)),
        ("item_title, item_attributes and taste", (cfg.item_title, cfg.item_attributes, cfg.taste)),
    ):
        if min(weights) < 0 or sum(weights) <= 0:
            raise config.ConfigError(f"prompts: {names_of} are weights: at least 0, and one of them above")


def spoken_in_training(catalogue: Catalogue, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Texts with all the words that prompts have in training."""
    roles = {role for _, role in columns}
    found = [*catalogue.titles, ", ".join(FRAGMENTS[role] for role in sorted(roles)).replace("{}", " ") + ","]
    for name, role in columns:
        found += [spoken(role, value) for value in catalogue.column(name).cast(pa.string()).to_pylist() if value]
    return found + _words_of(TRAINING, roles)


def texts(catalogue: Catalogue, columns: Sequence[tuple[str, str]]) -> list[str]:
    """What a vocabulary is learned from: what is said in training, the catalogue's texts, and held-out templates."""
    return [*spoken_in_training(catalogue, columns), *catalogue.texts, *_words_of(HELD_OUT, ROLES)]


def _words_of(templates: Templates, roles: Iterable[str]) -> list[str]:
    """The templates of some roles without values, so often that each of their words becomes a piece."""
    found = []
    of_roles = [templates.more[role] for role in sorted(roles)]
    for some in (*of_roles, templates.less, templates.like, templates.several):
        found += [text.replace("{}", " ") for text in some] * (1 + 60 // len(some))
    return [*found, *templates.fillers]


def _phrase(said: Sequence[tuple[str, str]]) -> str:
    """ "calm music about jazz by Ada Costa", of roles and values."""
    ordered = sorted(said, key=lambda one: ORDER[one[0]])
    return " ".join(_fill(FRAGMENTS[role], spoken(role, value)) for role, value in ordered)


def _some_words(text: str, random: np.random.Generator) -> str:
    """One to three words of a title that stand next to each other."""
    words = text.split()
    number = min(int(random.integers(1, 4)), len(words))
    first = int(random.integers(0, len(words) - number + 1))
    return " ".join(words[first : first + number])


def _pick(options: Sequence, random: np.random.Generator):
    return options[int(random.integers(len(options)))]


def _place(cumulative: np.ndarray, random: np.random.Generator) -> int:
    """A place by cumulative weights."""
    return min(int(np.searchsorted(cumulative, random.random() * cumulative[-1])), len(cumulative) - 1)


def _said(options: Sequence[str], value: str, templates: Templates, random: np.random.Generator) -> str:
    """A value in one of the templates; or, where there are fillers, half of the time amid some of those."""
    text = _fill(_pick(options, random), value)
    if not templates.fillers or random.random() < 0.5:
        return text
    before, after = ([_pick(templates.fillers, random) for _ in range(random.integers(0, 4))] for _ in range(2))
    return " ".join([*before, text, *after])


def _fill(template: str, text: str) -> str:
    return template.replace("{}", text)
