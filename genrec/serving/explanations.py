"""Why an item is recommended: what its log-probability loses when a part of what the model knows is left out.

Exact, and not an estimate: the model scores the items once for each part, without it, all in one pass. A part is an
item of the history, a feature, a vector, the prompt, or a line of the profile.
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

from genrec.data.dataset import Catalogue
from genrec.input_pipeline.context import ABSENT
from genrec.input_pipeline.examples import Examples
from genrec.serving.engine import Search
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

ROWS = 16  # variations of a request are filled up to a multiple of this: each number is a compilation
WORDS = 4  # that say what the items under a prefix have in common
SHOWN = 4  # reasons of an item, by default


class Part(NamedTuple):
    """Something that the model knows, and the request without it."""

    name: str
    without: Request
    left_out: frozenset[str] = frozenset()  # features and vectors


class Reason(NamedTuple):
    part: str
    change: float  # of the log-probability, by knowing the part: above 0 where it speaks for the item


class Explainer:
    """Explains the recommendations of a search."""

    def __init__(self, search: Search):
        self._search, self._loaded_model = search, search.loaded
        graphdef = self._loaded_model.graphdef

        @jax.jit
        def score(params: nnx.State, examples: Examples) -> jax.Array:
            return -nnx.merge(graphdef, params).losses(examples).sum(axis=-1)

        self._score = score

    def parts(self, request: Request) -> list[Part]:
        """All that the model knows of a request, newest history first."""
        loaded, catalogue = self._loaded_model, self._search.catalogue
        found = []
        for back in range(min(len(request.history), loaded.max_history)):
            place = len(request.history) - 1 - back
            without = dataclasses.replace(request, history=np.delete(request.history, place))
            found.append(Part(f"heard {back + 1} ago: {catalogue.titles[request.history[place]]}", without))
        known, context = loaded.tokenizer.known, self._search.context_of(request)
        for feature, code in zip(known.context.features, known.codes_of(request.name, context), strict=True):
            if code != ABSENT:
                name = f"{feature.name}: {feature.meaning(int(code))}"
                found.append(Part(name, request, frozenset({feature.name})))
        rows, earlier = np.array([known.row(request.name)]), [request.history[: -loaded.max_history]]
        for soft in known.context.soft:
            _, there = known.vectors_of(soft, rows, earlier, np.array([True]), [context.offset])
            if there[0]:
                found.append(Part(f"soft tokens: {soft.name}", request, frozenset({soft.name})))
        if request.prompt:
            found.append(Part(f"prompt: {request.prompt}", dataclasses.replace(request, prompt="")))
        if request.profile is not None:
            for entry in request.profile.entries:
                less = Profile(request.profile.user, tuple(e for e in request.profile.entries if e != entry))
                found.append(Part(f"profile: {entry.kind} {entry.about}", dataclasses.replace(request, profile=less)))
        return found

    def explain(self, request: Request, items: Sequence[int] | np.ndarray) -> list[list[Reason]]:
        """For each item, a catalogue row, all reasons, the strongest first.

        They are those of the model's own log-probability, whatever the guidance.
        """
        parts = self.parts(request)
        if not len(items):
            return []
        every = [Part("", request), *parts]
        scores = self.scores([part.without for part in every], [part.left_out for part in every], items)
        changes = scores[:1] - scores[1:]  # [parts, items]
        return [
            [Reason(parts[place].name, float(of_item[place])) for place in np.argsort(-np.abs(of_item), kind="stable")]
            for of_item in changes.T
        ]

    def scores(
        self, requests: Sequence[Request], left_out: Sequence[frozenset[str]], items: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """float32[requests, items]: log-probabilities of catalogue rows, for each request without what is left out."""
        loaded = self._loaded_model
        contexts = [
            self._search.context_of(request)._replace(withheld=names)
            for request, names in zip(requests, left_out, strict=True)
        ]
        filled = np.resize(np.arange(len(requests)), -(-len(requests) // ROWS) * ROWS)
        histories = self._search.read([requests[row] for row in filled], [contexts[row] for row in filled])
        targets = np.tile(loaded.tokenizer.items[np.asarray(items)], (len(filled), 1, 1))
        last = histories.positions.max(axis=1, keepdims=True)
        shape = targets.shape[:2]
        examples = Examples(histories, targets, np.ones(shape, np.int32), np.broadcast_to(last, shape).astype(np.int32))
        return np.asarray(self._score(loaded.params, examples))[: len(requests)]

    @functools.cached_property
    def _meanings(self) -> "PrefixWords":
        return PrefixWords(self._loaded_model.semantic_ids.codes, self._search.catalogue)

    def readable(self, request: Request, items: Sequence[int] | np.ndarray, reasons: int = SHOWN) -> str:
        """For people: each item with its strongest reasons, and what its code prefix stands for."""
        lines = []
        for item, found in zip(items, self.explain(request, items), strict=True):
            lines.append(f"  {self._search.catalogue.titles[item]}   [{self._meanings.of_item(int(item))}]")
            lines += [f"    {reason.change:+6.2f}  {reason.part}" for reason in found[:reasons]]
        return "\n".join(lines)


class PrefixWords:
    """What the items under a code prefix have in common, in words of their texts."""

    def __init__(self, codes: np.ndarray, catalogue: Catalogue):
        """`codes` uint16[items, levels]."""
        self._codes = codes
        self._texts = [set(re.findall(r"\w[\w-]+", text.lower())) for text in catalogue.texts]
        self._items_with = collections.Counter(word for words in self._texts for word in words)

    def of_prefix(self, prefix: Sequence[int]) -> list[str]:
        """The words that the items under a prefix have, and others have not: by frequency times rarity."""
        under = np.flatnonzero((self._codes[:, : len(prefix)] == np.asarray(prefix)).all(axis=1))
        counts = collections.Counter(word for item in under for word in self._texts[item])
        items = len(self._texts)

        def weight(word: str) -> float:
            return counts[word] / len(under) * math.log(items / self._items_with[word])

        shared = [word for word in counts if counts[word] >= min(2, len(under))]
        return sorted(shared, key=lambda word: (-weight(word), word))[:WORDS]

    def of_item(self, item: int) -> str:
        """The words of its first code, and those that its second code adds."""
        first = self.of_prefix(self._codes[item, :1])
        if self._codes.shape[1] < 3:
            return " ".join(first)
        second = [word for word in self.of_prefix(self._codes[item, :2]) if word not in first]
        return " ".join(first) + (" > " + " ".join(second) if second else "")
