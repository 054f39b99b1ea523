"""The engine of recommendations: model and catalogue, compiled and loaded once, answer request after request."""

import dataclasses
import math
from collections.abc import Sequence as AbstractSequence
from typing import Any

import numpy as np

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.beam_search import Diversity
from genrec.decoding.guidance import Guidance
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.loaded_model import LoadedModel
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sampling import Sampling
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Histories
from genrec.input_pipeline.prompts import parse_columns
from genrec.serving.prompt_rules import LESS, PromptRules
from genrec.serving.requests import Request


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Options:
    """How to recommend. Raises ConfigError for what cannot be."""

    top: int = _option(10, "Items to recommend.")
    beams: int = _option(50, "Width of the search; at least --top are taken.")
    max_beams: int = _option(0, "Widen it up to this, until the list is surely the best; 0 does not.")
    exclude_history: bool = _option(False, "Recommend no item of the history.")
    temperature: float = _option(0.0, "Above 0: draw items, and do not take the best; 1 is how the model sees them.")
    top_p: float = _option(1.0, "Draw from the likeliest codes of each level that together have this probability.")
    seed: int = _option(0, "Of what is drawn.")
    max_share: float = _option(1.0, "Of the list that may be alike, in --share_of.")
    share_of: str = _option("", "A column of the catalogue; empty: the code of the first level.")
    guidance: float = _option(
        1.0, "How strongly a prompt steers: 0 not at all, 1 as the model understands it, or more."
    )

    def __post_init__(self) -> None:
        for right, message in (
            (self.top >= 1 and self.beams >= 1, f"top={self.top} and beams={self.beams} must be at least 1"),
            (self.temperature >= 0, f"temperature={self.temperature}: give 0 for the best items, or more to draw"),
            (0 < self.top_p <= 1, f"top_p={self.top_p}: give a probability above 0, at most 1"),
            (self.top_p == 1 or self.temperature > 0, "top_p is for drawing items: give a temperature too, such as 1"),
            (self.guidance >= 0, f"guidance={self.guidance}: give 0 or more"),
            (0 <= self.seed < 2**31, f"seed={self.seed}: give a number from 0 to 2147483647"),
            (0 < self.max_share <= 1, f"max_share={self.max_share}: give a share above 0, at most 1"),
            (
                not self.max_beams or (self.temperature == 0 and self.max_share == 1),
                "max_beams widens a search until its list is certified: not for lists that are drawn or made diverse",
            ),
        ):
            if not right:
                raise config.ConfigError(message)


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The answer to a request: best first; fewer than asked for when the catalogue or the beams have no more."""

    items: np.ndarray  # int32[found], catalogue rows
    scores: np.ndarray  # float32[found], log-probabilities
    certified: int  # how many of the first items surely are the best of all that were allowed


class Search:
    """Recommends again and again: what is compiled and loaded once serves all requests."""

    def __init__(self, loaded: LoadedModel, options: Options, requests: int = 1, rules: bool = True):
        """`requests` is how many come at a time, at most. Without `rules`, the model alone decides on prompts."""
        self.loaded, self.options = loaded, options
        self.catalogue = loaded.dataset.catalogue
        self._live = LiveIndex(loaded.table, self.catalogue, filters=requests)
        self._retriever = Retriever(loaded.graphdef, self._live, max(options.beams, options.top), options.top)
        self._roles = parse_columns(loaded.prompts.get("columns", ()))  # of the columns that prompts are about
        roles, strict = dict(self._roles), loaded.prompts.get("rules", ()) if rules else ()
        self._rules = PromptRules(strict, roles, self.catalogue)
        tastes = [name for name, role in self._roles if role != "words" and name not in strict]
        self._tastes = PromptRules(tastes, roles, self.catalogue, also=(LESS,))

    def context_of(self, request: Request) -> RequestContext:
        """What the model is told: features, the words of the profile and the prompt, the profile's offset."""
        prompt, offset = request.prompt, None
        if request.profile is not None:
            prompt = self._with_profile(request)
            vectors = self.loaded.tokenizer.known.item_vectors
            offset = None if vectors is None else request.profile.offset(self.catalogue, vectors)
        return RequestContext(request.context_overrides, prompt=prompt, offset=offset)

    def _with_profile(self, request: Request) -> str:
        """The profile's words and the prompt; where they are too long to be read, only what was said last."""
        tokenizer, said = self.loaded.tokenizer, request.prompt
        words = request.profile.words(self.catalogue, self._roles) if self._roles else []
        for phrase in reversed(words):
            longer = f"{phrase}, {said}" if said else phrase
            if len(tokenizer.vocabulary.encode(longer)) > tokenizer.longest_served_prompt:
                break
            said = longer
        return said

    def filter_of(self, request: Request, wanted: Filter = EVERYTHING) -> Filter:
        """`wanted`, what the prompt makes a rule, and without what the profile forbids."""
        conditions = (*wanted.conditions, *self._rules.conditions(request.prompt))
        denied = wanted.deny
        if request.profile is not None:
            denied |= request.profile.checked(self.catalogue).deny(self.catalogue)
        return Filter(conditions, wanted.allow, denied)

    def read(self, requests: AbstractSequence[Request], contexts: AbstractSequence[RequestContext]) -> Histories:
        """What the model reads of requests, each in its context of `contexts`. Raises PromptError and DataError."""
        names, items = [request.name for request in requests], [request.history for request in requests]
        return self.loaded.histories(names, items, contexts=contexts)

    def _guidance(
        self, requests: AbstractSequence[Request], contexts: AbstractSequence[RequestContext], strength: float
    ) -> Guidance | None:
        """Away from no prompt, and from what is refused; None where plain conditioning does the same."""
        refused = [self._tastes.refused(one.prompt) for one in contexts]
        if not any(refused) and (strength == 1 or not any(one.prompt for one in contexts)):
            return None

        def with_prompts(texts: AbstractSequence[str]) -> Histories:
            return self.read(requests, [one._replace(prompt=text) for one, text in zip(contexts, texts, strict=True)])

        strengths = np.full(len(requests), strength, np.float32)
        guidance = Guidance(with_prompts([""] * len(requests)), strengths)
        if any(refused):
            against = np.where([bool(text) for text in refused], strengths, np.float32(0))
            guidance = guidance._replace(refused=with_prompts(refused), against=against)
        return guidance

    def __call__(
        self, requests: AbstractSequence[Request], wanted: Filter = EVERYTHING, guidance: float | None = None
    ) -> list[Recommendations]:
        """The items that a search finds for each request, of those that pass `wanted` and the request's own rules.

        `guidance` is the strength of the prompts, by default the options'. Raises PromptError for prompts that cannot
        be read, DataError for features and columns that are not there.
        """
        loaded, options, live, retriever = self.loaded, self.options, self._live, self._retriever
        contexts = [self.context_of(request) for request in requests]
        encoded = self.read(requests, contexts)
        guided = self._guidance(requests, contexts, options.guidance if guidance is None else guidance)
        restrictions = [
            Restriction(self.filter_of(request, wanted), request.history if options.exclude_history else ())
            for request in requests
        ]
        sample = _sampling(options, len(requests)) if options.temperature else None
        diversity = _diversity(options, retriever.beams, self.catalogue, len(requests))
        if diversity is not None:
            found = retriever.diverse(loaded.params, encoded, restrictions, diversity, sample, guided)
        else:
            constraints, max_beams = live.constraints(restrictions), max(options.max_beams, retriever.beams)
            found = retriever.widened(loaded.params, encoded, max_beams, options.top, constraints, sample, guided)
        certified = (found.scores >= found.bound[:, None]) & (found.items >= 0)
        return [
            Recommendations(items[items >= 0], scores[items >= 0], int(sure.sum()))
            for items, scores, sure in zip(found.items, found.scores, certified, strict=True)
        ]


def recommend(
    loaded: LoadedModel, requests: AbstractSequence[Request], options: Options, wanted: Filter = EVERYTHING
) -> list[Recommendations]:
    """The items that a search finds for each request, of those that pass the filter `wanted`; see `Search`."""
    return Search(loaded, options, len(requests))(requests, wanted)


def _sampling(options: Options, requests: int) -> Sampling:
    temperature = np.full(requests, options.temperature, np.float32)
    top_p = None if options.top_p == 1 else np.full(requests, options.top_p, np.float32)
    return Sampling(temperature, top_p, np.arange(requests, dtype=np.int32) + np.int32(options.seed))


def _diversity(options: Options, beams: int, catalogue: Catalogue, requests: int) -> Diversity | None:
    if options.max_share == 1:
        return None
    most_beams, most_items = math.ceil(options.max_share * beams), max(1, math.floor(options.max_share * options.top))
    groups = catalogue.groups(options.share_of) if options.share_of else None
    return Diversity(np.full(requests, most_beams, np.int32), np.full(requests, most_items, np.int32), groups)
