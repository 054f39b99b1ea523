"""Leave-one-out explanations: how an item's log-probability changes when one input of the model is removed.

Exact: the model scores the items once without each input, all in one batched pass. An input is an item of the history,
a feature, a vector, the prompt, or an entry of the profile.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from genrec import printing
from genrec.data.dataset import Catalogue
from genrec.input_pipeline.context import ABSENT
from genrec.input_pipeline.examples import Examples
from genrec.serving.engine import Engine
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

ROWS = 16  # batches are padded to a multiple of this: each size is a compilation
WORDS = 4  # of the description of a prefix
REASONS = 4  # of an item, by default


class Ablation(NamedTuple):
    """An input of the model, and the request without it."""

    name: str
    request: Request
    withheld: frozenset[str] = frozenset()  # features and vectors


class Reason(NamedTuple):
    """An input, and the change of an item's log-probability that is due to it: above 0 if it favors the item."""

    name: str
    change: float


class Explainer:
    """Explains the recommendations of an engine by the model's own log-probabilities, before guidance."""

    def __init__(self, engine: Engine):
        self._engine = engine
        graphdef = engine.loaded.graphdef

        @jax.jit
        def score(params: nnx.State, examples: Examples) -> jax.Array:
            return -nnx.merge(graphdef, params).losses(examples).sum(axis=-1)

        self._score = score

    def ablations(self, request: Request) -> list[Ablation]:
        """Returns an ablation of each input of a request; those of the history first, newest item first."""
        loaded, catalogue = self._engine.loaded, self._engine.catalogue
        found = []
        for back in range(min(len(request.history), loaded.max_history)):
            place = len(request.history) - 1 - back
            without = dataclasses.replace(request, history=np.delete(request.history, place))
            found.append(Ablation(f"heard {back + 1} ago: {catalogue.titles[request.history[place]]}", without))
        known, context = loaded.tokenizer.user_features, self._engine.context_of(request)
        for feature, code in zip(known.context.features, known.codes_of(request.name, context), strict=True):
            if code != ABSENT:
                name = f"{feature.name}: {feature.meaning(int(code))}"
                found.append(Ablation(name, request, frozenset({feature.name})))
        rows, earlier = np.array([known.row(request.name)]), [request.history[: -loaded.max_history]]
        for soft in known.context.vectors:
            _, there = known.vectors_of(soft, rows, earlier, np.array([True]), [context.offset])
            if there[0]:
                found.append(Ablation(f"soft tokens: {soft.name}", request, frozenset({soft.name})))
        if request.prompt:
            found.append(Ablation(f"prompt: {request.prompt}", dataclasses.replace(request, prompt="")))
        profile = request.profile
        for entry in profile.entries:
            others = Profile(profile.user, tuple(one for one in profile.entries if one != entry))
            found.append(Ablation(f"profile: {entry.kind} {entry.about}", dataclasses.replace(request, profile=others)))
        return found

    def explain(self, request: Request, items: Sequence[int] | np.ndarray) -> list[list[Reason]]:
        """Returns the reasons for each item, a catalogue row, by descending absolute change."""
        if not len(items):
            return []
        ablations = self.ablations(request)
        scores = self._scores([Ablation("", request), *ablations], items)
        changes = scores[:1] - scores[1:]  # [ablations, items]
        return [
            [Reason(ablations[n].name, float(of_item[n])) for n in np.argsort(-np.abs(of_item), kind="stable")]
            for of_item in changes.T
        ]

    def _scores(self, ablations: Sequence[Ablation], items: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns float32[ablations, items]: log-probabilities of catalogue rows."""
        loaded = self._engine.loaded
        contexts = [self._engine.context_of(one.request)._replace(withheld=one.withheld) for one in ablations]
        # Repeated until they fill the batch; the copies are dropped.
        padded = np.resize(np.arange(len(ablations)), -(-len(ablations) // ROWS) * ROWS).tolist()
        histories = self._engine.encode([ablations[row].request for row in padded], [contexts[row] for row in padded])
        targets = np.tile(loaded.tokenizer.items[np.asarray(items)], (len(padded), 1, 1))
        last = histories.positions.max(axis=1, keepdims=True)
        shape = targets.shape[:2]
        shares = None
        if histories.transitions is not None:
            requests = [ablations[row].request for row in padded]
            shares = self._log_shares([request.history for request in requests], np.asarray(items))
            histories = histories._replace(transitions=None)
        last = np.broadcast_to(last, shape).astype(np.int32)
        examples = Examples(histories, targets, np.ones(shape, np.int32), last, log_shares=shares)
        return np.asarray(self._score(loaded.params, examples))[: len(ablations)]

    def _log_shares(self, histories: Sequence[np.ndarray], items: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns `Examples.log_shares` of the same items after each history."""
        shares = self._engine.loaded.tokenizer.code_shares
        assert shares is not None  # else there are no transitions
        stop = np.repeat(np.cumsum([len(one) for one in histories]), len(items))
        start = stop - np.repeat([len(one) for one in histories], len(items))
        found = shares.log_shares(np.concatenate(histories), start, stop, np.tile(items, len(histories)), None)
        return tuple(one.reshape(len(histories), len(items), -1) for one in found)

    @functools.cached_property
    def _prefix_words(self) -> "PrefixWords":
        return PrefixWords(self._engine.loaded.semantic_ids.codes, self._engine.catalogue)

    def as_text(self, request: Request, items: Sequence[int] | np.ndarray, reasons: int = REASONS) -> str:
        """Returns lines for people: each item with the words of its code prefix, and its strongest reasons."""
        lines = []
        for item, found in zip(items, self.explain(request, items), strict=True):
            lines.append(f"  {self._engine.catalogue.titles[item]}   [{self._prefix_words.of_item(int(item))}]")
            lines += [f"    {reason.change:+6.2f}  {reason.name}" for reason in found[:reasons]]
        return "\n".join(map(printing.one_line, lines))


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
