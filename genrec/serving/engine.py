"""The recommendation engine: a model and its catalogue, loaded and compiled once for all requests."""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping
from collections.abc import Sequence as AbstractSequence

import numpy as np

from genrec import config, settings_check, shares
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.beam_search import Diversity
from genrec.decoding.guidance import Guidance, NegativePrompts
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sampling import Sampling
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Histories
from genrec.input_pipeline.prompts import parse_columns
from genrec.serving import history_words
from genrec.serving.profiles import Phrase, Profile
from genrec.serving.prompt_rules import LESS, ONLY, PromptRules, Understanding
from genrec.serving.requests import Request
from genrec.serving.suggestions import values_of
from genrec.settings import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the search. Raises ConfigError for invalid values."""

    top: int = setting(10, "Number of items to recommend.", at_least=1, at_most=config.MANY)
    beams: int = setting(50, "Beam width; at least --top is used.", at_least=1, at_most=config.MANY)
    max_beams: int = setting(
        0,
        "Double the beam width up to this until the list is certified; 0 never does.",
        at_least=0,
        at_most=config.MANY,
    )
    exclude_history: bool = setting(False, "Exclude the items of the history.")
    temperature: float = setting(
        0.0, "Sampling temperature; 0 returns the most likely items, 1 samples as modeled.", at_least=0
    )
    top_p: float = setting(
        1.0, "Nucleus sampling: probability mass of the codes of each level to sample from.", above=0, at_most=1
    )
    seed: int = setting(0, "Sampling seed.", at_least=0)
    max_share: float = setting(1.0, "Maximum share of the list with the same value of --share_of.", above=0, at_most=1)
    share_of: str = setting(
        "", "Catalogue column for --max_share; empty takes the code of the first level.", text="a column of the items"
    )
    guidance: float = setting(1.0, "Guidance strength of prompts: 0 ignores them, 1 is plain conditioning.", at_least=0)

    def __post_init__(self) -> None:
        settings_check.check(self)
        if self.top_p < 1 and self.temperature == 0:
            raise config.ConfigError("top_p is for sampling: give a temperature too, such as 1")
        if self.max_beams and (self.temperature > 0 or self.max_share < 1):
            raise config.ConfigError(
                "max_beams widens a search until its list is certified: not for sampled or diversified lists"
            )


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The ranked list of a request; shorter than requested if the catalogue or the beams have no more items."""

    items: np.ndarray  # int32[found], catalogue rows
    scores: np.ndarray  # float32[found], log-probabilities
    certified: int  # how many leading items are proven to be the most likely of all eligible ones


@dataclasses.dataclass(frozen=True)
class Shortage:
    """Rules of a prompt that leave fewer items than asked for, and a list where some of them are taste."""

    eligible: int  # items that pass all rules
    without: Mapping[int, int]  # number of a rule -> items that pass the others
    loosened: tuple[int, ...] = ()  # numbers of the rules that are taste in the list
    found: Recommendations | None = None


class Engine:
    """Recommends for batches of requests; for most of them nothing needs to be compiled again."""

    def __init__(
        self,
        loaded: LoadedGenerator,
        options: Options,
        requests: int = 1,
        rules: bool = True,
        today: Callable[[], datetime.date] = datetime.date.today,
        negative_prompts: bool = True,
    ):
        """`requests` is the largest batch. `rules=False` turns off the hard filters of prompts.

        `today` returns the date on which entries of profiles hold or have expired. Without `negative_prompts`, the
        model alone hears what a prompt refuses.
        """
        self.loaded, self.options, self._today = loaded, options, today
        self.catalogue = loaded.dataset.catalogue
        self._live = LiveIndex(loaded.table, self.catalogue, filters=requests)
        self._retriever = Retriever(loaded.graphdef, self._live, max(options.beams, options.top), options.top)
        self.prompt_columns = parse_columns(loaded.prompts.get("columns", ()))  # with their roles
        self._rules = PromptRules(loaded.prompts.get("rules", ()), dict(self.prompt_columns), self.catalogue)
        self._with_rules = rules
        self._read_prompt = functools.lru_cache(maxsize=1024)(self._rules.read)
        self.chosen = history_words.chosen(self.catalogue)  # what users did with the items of the history
        self._with_negative_prompts = negative_prompts

    def context_of(self, request: Request) -> RequestContext:
        """Returns the context of a request: its overrides, prompt and profile phrases, and the profile's offset."""
        vectors = self.loaded.tokenizer.user_features.item_vectors
        offset = None if vectors is None else self.profile_of(request).offset(self.catalogue, vectors)
        prompt = _joined(self._phrases(request), self._said(request))
        return RequestContext(request.context_overrides, prompt=prompt, offset=offset)

    def understand(self, request: Request) -> Understanding:
        """Returns what is understood of the prompt, without what the request switches off."""
        rules = self._with_rules and request.rules
        return self._read_prompt(request.prompt, rules).without(request.parts_off)

    def rows_of(self, phrase: str) -> np.ndarray:
        """Returns the catalogue rows int[n] with all values that a phrase such as "calm music" asks for."""
        asked = [one for part in self._read_prompt(phrase, True).parts if part.kind != LESS for one in part.conditions]
        if not asked:
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.logical_and.reduce([condition.mask(self.catalogue) for condition in asked]))

    def creators_of(self, item: int) -> list[str]:
        """Returns who made an item, a catalogue row, by the columns that prompts name with "by"."""
        cells = [self.catalogue.column(name)[item].as_py() for name, role in self.prompt_columns if role == "by"]
        return [value for cell in cells for value in values_of(cell)]

    def _said(self, request: Request) -> str:
        """Returns the prompt as the model reads it; of too many lines, the latest that fit."""
        said, encode = "", self.loaded.tokenizer.vocabulary.encode if self.prompt_columns else None
        for line in reversed(self.understand(request).lines()):
            longer = f"{line}, {said}" if said else line
            if said and encode and len(encode(longer)) > self.loaded.tokenizer.longest_served_prompt:
                break
            said = longer
        return said

    def profile_of(self, request: Request) -> Profile:
        """Returns the entries of the request's profile that hold today."""
        return request.profile.holding(self._today())

    def _phrases(self, request: Request) -> list[Phrase]:
        """Returns the phrases of the profile; of too many the strongest that fit beside the prompt, then the latest."""
        tokenizer, said, kept = self.loaded.tokenizer, self._said(request), list[int]()
        phrases = self.profile_of(request).phrases(self.catalogue, self.prompt_columns) if self.prompt_columns else []
        for place in sorted(range(len(phrases)), key=lambda place: (-phrases[place].strength, -place)):
            longer = _joined([phrases[one] for one in sorted([*kept, place])], said)
            if len(tokenizer.vocabulary.encode(longer)) > tokenizer.longest_served_prompt:
                break
            kept.append(place)
        return [phrases[place] for place in sorted(kept)]

    def _phrase_strength(self, request: Request, negative: bool) -> float:
        """Returns the mean strength of the profile's phrases; 1 if there are none, and beside a prompt."""
        strengths = [one.strength for one in self._phrases(request) if one.negative == negative]
        return float(np.mean(strengths)) if strengths and not request.prompt else 1.0

    def filter_of(self, request: Request, item_filter: Filter = EVERYTHING) -> Filter:
        """Returns `item_filter` with the hard filters of the prompt and the items that the profile denies."""
        profile = self.profile_of(request).checked(self.catalogue)
        return profile.restrict(self.understand(request).restrict(item_filter), self.catalogue)

    def _negative_prompt(self, request: Request) -> str:
        """Returns a prompt for what profile and prompt refuse and no rule excludes."""
        if not self._with_negative_prompts:
            return ""
        of_profile = ". ".join(phrase.text for phrase in self._phrases(request))
        refused = self._rules.negative_prompt(of_profile), self.understand(request).negative_prompt()
        return ", ".join(filter(None, refused))

    def shortage(self, request: Request, found: Recommendations, item_filter: Filter = EVERYTHING) -> Shortage | None:
        """Returns what could be loosened if the rules of the prompt leave fewer items than asked for, else None."""
        rules = [(n, part) for n, part in enumerate(self.understand(request).parts, start=1) if part.rule]
        excluded = request.history if self.options.exclude_history else ()

        def eligible(request: Request) -> int:
            passing = self.filter_of(request, item_filter).mask(len(self.catalogue), self.catalogue)
            passing[np.asarray(excluded, np.int64)] = False
            return int(passing.sum())

        def loosened(*numbers: int) -> Request:
            return dataclasses.replace(request, parts_off=request.parts_off | set(numbers))

        if len(found.items) >= self.options.top or not rules or (left := eligible(request)) >= self.options.top:
            return None
        without = {number: eligible(loosened(number)) for number, _ in rules}
        # What is asked for is loosened before what is refused.
        best, _ = max(rules, key=lambda rule: (without[rule[0]] > left and rule[1].kind == ONLY, without[rule[0]]))
        off = [best] if without[best] > left else [number for number, part in rules if part.kind == ONLY]
        if not off or eligible(loosened(*off)) <= left:
            return Shortage(left, without)
        return Shortage(left, without, tuple(off), self.recommend([loosened(*off)], item_filter)[0])

    def encode(self, requests: AbstractSequence[Request], contexts: AbstractSequence[RequestContext]) -> Histories:
        """Returns the encoder inputs of requests in `contexts`. Raises PromptError and DataError."""
        names, items = [request.name for request in requests], [request.history for request in requests]
        return self.loaded.histories(names, items, contexts=contexts)

    def _guidance(
        self, requests: AbstractSequence[Request], contexts: AbstractSequence[RequestContext], strength: float
    ) -> Guidance | None:
        """Returns the guidance by prompts and negative prompts, None if it equals plain conditioning."""
        negative = [self._negative_prompt(request) for request in requests]
        strengths = np.array([strength * self._phrase_strength(one, False) for one in requests], np.float32)
        if not any(negative) and all(
            one == 1 or not context.prompt for one, context in zip(strengths, contexts, strict=True)
        ):
            return None

        def with_prompts(texts: AbstractSequence[str]) -> Histories:
            return self.encode(requests, [one._replace(prompt=text) for one, text in zip(contexts, texts, strict=True)])

        guidance = Guidance(with_prompts([""] * len(requests)), strengths)
        if any(negative):
            refusing = np.array([strength * self._phrase_strength(one, True) for one in requests], np.float32)
            against = np.where([bool(text) for text in negative], refusing, np.float32(0))
            guidance = guidance._replace(negative=NegativePrompts(with_prompts(negative), against))
        return guidance

    def is_guided(self, request: Request) -> bool:
        """Returns whether the search for a request departs from the model's own distribution."""
        return self._guidance([request], [self.context_of(request)], self.options.guidance) is not None

    def recommend(
        self, requests: AbstractSequence[Request], item_filter: Filter = EVERYTHING, guidance: float | None = None
    ) -> list[Recommendations]:
        """Returns the ranked list of each request, of items that pass `item_filter` and the filters of the request.

        `guidance` is the guidance strength, by default that of the options. Raises PromptError for prompts that are too
        long or not supported, DataError for unknown features and columns.
        """
        params, options, live, retriever = self.loaded.params, self.options, self._live, self._retriever
        contexts = [self.context_of(request) for request in requests]
        encoded = self.encode(requests, contexts)
        guided = self._guidance(requests, contexts, options.guidance if guidance is None else guidance)
        restrictions = [
            Restriction(
                self.filter_of(request, item_filter), request.history.tolist() if options.exclude_history else ()
            )
            for request in requests
        ]
        sample = _sampling(options, len(requests)) if options.temperature else None
        diversity = _diversity(options, retriever.beams, self.catalogue, len(requests))
        if diversity is not None:
            found = retriever.diverse_search(params, encoded, restrictions, diversity, sample, guided)
        else:
            constraints, max_beams = live.constraints(restrictions), max(options.max_beams, retriever.beams)
            found = retriever.widening_search(params, encoded, max_beams, options.top, constraints, sample, guided)
        certified = (found.scores >= found.bound[:, None]) & (found.items >= 0)
        return [
            Recommendations(items[items >= 0], scores[items >= 0], int(sure.sum()))
            for items, scores, sure in zip(found.items, found.scores, certified, strict=True)
        ]


def _joined(phrases: AbstractSequence[Phrase], prompt: str) -> str:
    return ", ".join([*(phrase.text for phrase in phrases), *([prompt] if prompt else [])])


def _sampling(options: Options, requests: int) -> Sampling:
    temperature = np.full(requests, options.temperature, np.float32)
    top_p = None if options.top_p == 1 else np.full(requests, options.top_p, np.float32)
    return Sampling(temperature, top_p, np.arange(requests, dtype=np.int32) + np.int32(options.seed))


def _diversity(options: Options, beams: int, catalogue: Catalogue, requests: int) -> Diversity | None:
    if options.max_share == 1:
        return None
    most_beams = shares.ceil(options.max_share, beams)
    most_items = max(1, shares.floor(options.max_share, options.top))
    groups = catalogue.groups(options.share_of) if options.share_of else None
    return Diversity(np.full(requests, most_beams, np.int32), np.full(requests, most_items, np.int32), groups)
