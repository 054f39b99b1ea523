"""Leave-one-out explanations: how an item's log-probability changes when one input of the model is removed.

Exact: the model scores the items once without each input, all in one batched pass. An input is an item of the history
with all its occurrences, a feature, a vector, the prompt, or an entry of the profile. The words of a reason state the
input, and nothing that was not computed.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genrec import printing
from genrec.data.dataset import Catalogue
from genrec.data.filters import Condition
from genrec.input_pipeline import prompts
from genrec.input_pipeline.context import ABSENT, SEQUENTIAL, SUMMARY, UNKNOWN, VECTOR, Feature
from genrec.serving.engine import Engine
from genrec.serving.history_words import CHOSEN
from genrec.serving.profile_entries import LEARNED, SIGNS, Entry
from genrec.serving.profiles import Profile
from genrec.serving.prompt_grammar import ONLY
from genrec.serving.requests import Request
from genrec.serving.suggestions import values_of
from genrec.serving.understanding import TASTE

ROWS = 16  # batches are padded to a multiple of this: each size is a compilation
WORDS = 4  # of the description of a prefix
REASONS = 4  # of an item, by default
STATED = 3  # most reasons of an item in words
LEAST = 0.1  # change of the log-probability from which a reason is stated: a tenth more likely
DAY = 86_400  # seconds
PERIODS = ((DAY, "in the last day"), (7 * DAY, "in the last week"), (30 * DAY, "in the last month"))
VECTOR_WORDS = {
    VECTOR: "of what is known of you beside your history",
    SUMMARY: "of your earlier history as a whole",
    SEQUENTIAL: "of your earlier history in its order",
}
ENTRY_WORDS = {"likes": "likes", "more_of": "asks for more of", "less_of": "asks for less of"}


class Ablation(NamedTuple):
    """An input of the model, and the request without it."""

    name: str
    request: Request
    withheld: frozenset[str] = frozenset()  # features and vectors
    words: str = ""  # what follows "because"; empty if no words fit
    entry: Entry | None = None  # if the input is one of the profile
    asked: tuple[Condition, ...] = ()  # what the prompt asks for, if the input is the prompt


class Reason(NamedTuple):
    """An input, and the change of an item's log-probability that is due to it: above 0 if it favors the item."""

    name: str
    change: float
    words: str = ""  # what follows "because"; empty if no words fit


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The reasons for an item. Its inputs overlap: their single changes do not add up to the joint one."""

    reasons: list[Reason]  # by descending absolute change
    joint: float  # change of the log-probability when all inputs are removed at once

    @property
    def total(self) -> float:
        """The sum of the single changes."""
        return sum(reason.change for reason in self.reasons)

    @property
    def stated(self) -> list[Reason]:
        """The reasons that words state: at most STATED, that favor the item by at least LEAST, strongest first."""
        clear = [reason for reason in self.reasons if reason.words and reason.change >= LEAST]
        return sorted(clear, key=lambda reason: -reason.change)[:STATED]

    def in_words(self) -> str:
        """Returns the stated reasons as a sentence."""
        if self.stated:
            return "because " + "; ".join(reason.words for reason in self.stated)
        together = ", all of them together do" if self.joint >= LEAST else ""
        return f"no single input makes this item much more likely{together}"


class Explainer:
    """Explains the recommendations of an engine by the model's own log-probabilities, before guidance."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def ablations(self, request: Request) -> list[Ablation]:
        """Returns an ablation of each input of a request; those of the history first, newest item first."""
        loaded = self._engine.loaded
        recent = request.history[::-1][: loaded.max_history].tolist()
        found = [self._without_item(request, item, recent.index(item) + 1) for item in dict.fromkeys(recent)]
        known, context = loaded.tokenizer.user_features, self._engine.context_of(request)
        for feature, code in zip(known.context.features, known.codes_of(request.name, context), strict=True):
            if code != ABSENT:
                name = f"{feature.name}: {feature.meaning(int(code))}"
                found.append(Ablation(name, request, frozenset({feature.name}), _feature_words(feature, int(code))))
        rows, earlier = np.array([known.row(request.name)]), [request.history[: -loaded.max_history]]
        for soft in known.context.vectors:
            _, there = known.vectors_of(soft, rows, earlier, np.array([True]), [context.offset])
            if there[0]:
                words = VECTOR_WORDS.get(soft.name, "")
                if soft.name == SUMMARY and context.offset is not None:
                    words = f"{words} and your profile" if len(earlier[0]) else "of your profile"
                found.append(Ablation(f"soft tokens: {soft.name}", request, frozenset({soft.name}), words))
        if request.prompt:
            said = request.prompt.replace("\n", ", ")
            without, words = dataclasses.replace(request, prompt=""), f'you asked for "{said}"'
            parts = self._engine.understand(request).parts
            asked = tuple(one for part in parts if part.kind in (ONLY, TASTE) for one in part.conditions)
            found.append(Ablation(f"prompt: {said}", without, words=words, asked=asked))
        profile = self._engine.profile_of(request)
        for entry in profile.entries:
            others = Profile(profile.user, tuple(one for one in profile.entries if one != entry))
            without, words = dataclasses.replace(request, profile=others), self._entry_words(entry)
            found.append(Ablation(f"profile: {entry.kind} {entry.about}", without, words=words, entry=entry))
        return found

    def _without_item(self, request: Request, item: int, back: int) -> Ablation:
        """Returns the ablation of all occurrences of an item, the last of which is the `back`-th from the end."""
        title = self._engine.catalogue.titles[item]
        places = np.flatnonzero(request.history == item)
        chosen = self._engine.chosen
        name = f"{chosen} {back} ago" if len(places) == 1 else f"{chosen} {len(places)} times, last {back} ago"
        did = "chose" if chosen == CHOSEN else chosen
        words = f'you {did} "{title}"{self._counted(request, places)}'
        return Ablation(f"{name}: {title}", request.without_events(places), words=words)

    def _counted(self, request: Request, places: np.ndarray) -> str:
        """Returns how often, and how recently where times are known, the events at some places of a history were."""
        every, ages = _often(len(places)), request.known_ages
        if ages is None or not self._engine.loaded.dataset.has_times:
            return every
        for seconds, period in PERIODS:
            if recent := int((ages[places] <= seconds).sum()):
                if recent == len(places):
                    return f"{every} {period}"
                return f"{every}, {_often(recent).strip() or 'once'} {period}"
        return every

    def _entry_words(self, entry: Entry) -> str:
        """Returns the words of a profile's entry; none for those of items that are never returned."""
        if entry.denies:
            return ""
        titles = [f'"{self._engine.catalogue.titles[row]}"' for row in entry.rows(self._engine.catalogue)]
        what = " and ".join(titles) if entry.items else entry.about
        source = ", learned from your history," if entry.source == LEARNED else ""
        return f"your profile{source} {ENTRY_WORDS[entry.kind]} {what}"

    def explain(self, request: Request, items: Sequence[int] | np.ndarray) -> list[Explanation]:
        """Returns the explanation of each item, a catalogue row."""
        if not len(items):
            return []
        ablations, names = self.ablations(request), self._engine.loaded.tokenizer.context.names
        nothing = dataclasses.replace(request.without_events(np.arange(len(request.history))), prompt="")
        nothing = dataclasses.replace(nothing, profile=Profile(request.profile.user))
        everything = Ablation("", nothing, frozenset(names))
        scores = self._scores([Ablation("", request), everything, *ablations], items)
        changes = scores[:1] - scores[1:]  # [1 + ablations, items]
        found = []
        for item, (joint, *of_item) in zip(items, changes.T.tolist(), strict=True):
            reasons = [
                Reason(one.name, change, one.words and one.words + self._matches(one, int(item)))
                for one, change in zip(ablations, of_item, strict=True)
            ]
            found.append(Explanation(sorted(reasons, key=lambda reason: -abs(reason.change)), joint))
        return found

    def _matches(self, ablation: Ablation, item: int) -> str:
        """Returns which words of a prompt, or whether what a profile's entry is about, are true of an item."""
        catalogue = self._engine.catalogue
        if ablation.entry is not None and SIGNS[ablation.entry.kind] > 0 and not ablation.entry.items:
            return " (this matches)" if item in ablation.entry.rows(catalogue) else ""
        roles, said = dict(self._engine.prompt_columns), list[str]()
        for condition in ablation.asked:
            if role := roles.get(condition.column):
                values = values_of(catalogue.column(condition.column)[item].as_py())
                said += [f'"{prompts.surface_form(role, value)}"' for value in values if value in condition.values]
        return f" (this matches {', '.join(dict.fromkeys(said))})" if said else ""

    def _scores(self, ablations: Sequence[Ablation], items: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns float32[ablations, items]: log-probabilities of catalogue rows."""
        contexts = [self._engine.context_of(one.request)._replace(withheld=one.withheld) for one in ablations]
        # Repeated until they fill the batch; the copies are dropped.
        padded = np.resize(np.arange(len(ablations)), -(-len(ablations) // ROWS) * ROWS).tolist()
        requests = [ablations[row].request for row in padded]
        return self._engine.score(requests, [contexts[row] for row in padded], items)[: len(ablations)]

    @functools.cached_property
    def _prefix_words(self) -> "PrefixWords":
        return PrefixWords(self._engine.loaded.semantic_ids.codes, self._engine.catalogue)

    def as_text(self, request: Request, items: Sequence[int] | np.ndarray, reasons: int = REASONS) -> str:
        """Returns lines for people: each item with the words of its code prefix, and its strongest reasons."""
        lines = []
        guided = " (by the model before guidance)" if self._engine.is_guided(request) else ""
        for item, found in zip(items, self.explain(request, items), strict=True):
            lines.append(f"  {self._engine.catalogue.titles[item]}   [{self._prefix_words.of_item(int(item))}]")
            if found.reasons:
                lines.append(f"    {found.in_words()}{guided}")
            shown = [one for n, one in enumerate(found.reasons) if n < reasons or one in found.stated]
            lines += [f"    {reason.change:+6.2f}  {reason.name}" for reason in shown]
            if len(found.reasons) > 1:
                apart = f"{abs(found.total - found.joint):.2f} {'more' if found.total >= found.joint else 'less'}"
                every = f"all {len(found.reasons)} inputs at once"
                lines.append(f"    {found.joint:+6.2f}  {every}; one by one they sum to {found.total:+.2f}, {apart}")
        return "\n".join(map(printing.one_line, lines))


def _often(times: int) -> str:
    return {1: "", 2: " twice"}.get(times, f" {times} times")


def _feature_words(feature: Feature, code: int) -> str:
    """Returns the words of a feature; none for a value that training did not see."""
    name, value = feature.name.replace("_", " "), feature.meaning(code)
    owner = "your" if feature.of == "user" else "the"
    return "" if code == UNKNOWN else f"{owner} {name} is {value}"


class PrefixWords:
    """Describes code prefixes by the words of highest TF-IDF in the texts of their items."""

    def __init__(self, codes: np.ndarray, catalogue: Catalogue):
        """`codes` uint16[items, levels]."""
        self._codes = codes
        self._texts = [set(re.findall(r"\w[\w-]+", text.lower())) for text in catalogue.texts]
        self._items_with = collections.Counter(word for words in self._texts for word in words)

    def of_prefix(self, prefix: Sequence[int] | np.ndarray) -> list[str]:
        """Returns the words that distinguish the items under a prefix, by descending TF-IDF, then by name."""
        under = np.flatnonzero((self._codes[:, : len(prefix)] == np.asarray(prefix)).all(axis=1))
        counts = collections.Counter(word for item in under for word in self._texts[item])
        items = len(self._texts)

        def weight(word: str) -> float:
            return counts[word] / len(under) * math.log(items / self._items_with[word])

        shared = [word for word in counts if counts[word] >= min(2, len(under))]
        return sorted(shared, key=lambda word: (-weight(word), word))[:WORDS]

    def of_item(self, item: int) -> str:
        """Returns the words of an item's first code, and those that its second code adds."""
        first = self.of_prefix(self._codes[item, :1])
        if self._codes.shape[1] < 3:
            return " ".join(first)
        second = [word for word in self.of_prefix(self._codes[item, :2]) if word not in first]
        return " ".join(first) + (" > " + " ".join(second) if second else "")
