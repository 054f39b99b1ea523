"""The recommendation engine: a model and its catalogue, loaded and compiled once for all requests."""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping
from collections.abc import Sequence as AbstractSequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from genrec import shares
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.beam_search import Diversity
from genrec.decoding.guidance import Guidance, NegativePrompts
from genrec.decoding.live_index import Restriction
from genrec.decoding.retrieval import Searcher
from genrec.decoding.sampling import Sampling
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Examples, Histories, Tokenizer
from genrec.input_pipeline.prompts import parse_columns
from genrec.serving import history_words
from genrec.serving.profiles import Phrase, Profile
from genrec.serving.prompt_grammar import LESS, ONLY
from genrec.serving.prompt_rules import PromptRules
from genrec.serving.prompt_values import Meaning
from genrec.serving.queries import Options, PreparedQuery, Program, Query, Recommendations, Shortage
from genrec.serving.requests import Request
from genrec.serving.suggestions import values_of
from genrec.serving.understanding import Understanding


class Catalogued(Protocol):
    """The dataset of a model, as far as recommendations read it."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def has_times(self) -> bool: ...


class Coded(Protocol):
    """The semantic IDs of a model, as far as explanations read them."""

    @property
    def codes(self) -> np.ndarray: ...


class Generator(Protocol):
    """A trained generator: `decoding.loaded_model.LoadedGenerator`, or that of a bundle."""

    @property
    def dataset(self) -> Catalogued: ...
    @property
    def semantic_ids(self) -> Coded: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def params(self) -> Any: ...  # of the compiled functions, which have no types
    @property
    def prompts(self) -> Mapping[str, Any]: ...  # JSON
    @property
    def max_history(self) -> int: ...
    def histories(
        self,
        names: AbstractSequence[str],
        items: AbstractSequence[np.ndarray],
        longest: int | None = None,
        contexts: AbstractSequence[RequestContext] | None = None,
        room: int = 0,
    ) -> Histories: ...
    def searcher(self, requests: int, beams: int, top: int) -> Searcher: ...
    def log_probabilities(self, targets: Examples) -> np.ndarray: ...


class CatalogueWords(NamedTuple):
    """A catalogue, and the words that requests and answers use of it."""

    catalogue: Catalogue
    rules: PromptRules
    chosen: str  # what users did with the items of the history


class Engine:
    """Recommends for batches of requests; for most of them nothing needs to be compiled again."""

    def __init__(
        self,
        loaded: Generator,
        options: Options,
        requests: int = 1,
        rules: bool = True,
        today: Callable[[], datetime.date] = datetime.date.today,
        negative_prompts: bool = True,
        searcher: Searcher | None = None,
    ):
        """`requests` is the largest batch. `rules=False` turns off the hard filters of prompts.

        `today` returns the date on which entries of profiles hold or have expired. Without `negative_prompts`, the
        model alone hears what a prompt refuses. `searcher` is by default that of the model.
        """
        self.loaded, self.options, self._today = loaded, options, today
        beams = max(options.beams, options.top)
        self.searcher = searcher or loaded.searcher(requests, beams, options.top)
        self.prompt_columns = parse_columns(loaded.prompts.get("columns", ()))  # with their roles
        self._with_rules, self._with_negative_prompts = rules, negative_prompts
        self.use(self.words_of(loaded.dataset.catalogue))

    def words_of(self, catalogue: Catalogue) -> "CatalogueWords":
        """Returns what `use` takes for another catalogue."""
        rules = PromptRules(self.loaded.prompts.get("rules", ()), dict(self.prompt_columns), catalogue)
        return CatalogueWords(catalogue, rules, history_words.chosen(catalogue))

    def use(self, words: "CatalogueWords") -> None:
        """Reads prompts, profiles and filters by another catalogue."""
        self.catalogue, self._rules, self.chosen = words
        self._read_prompt = functools.lru_cache(maxsize=1024)(self._rules.read)

    def context_of(self, request: Request) -> RequestContext:
        """Returns the context of a request: its overrides, prompt and profile phrases, and the profile's offset."""
        profile, said = self.profile_of(request), self._said(self.understand(request))
        return self._context(request, profile, said, self._phrases(profile, said))

    def _context(
        self, request: Request, profile: Profile, said: str, phrases: AbstractSequence[Phrase]
    ) -> RequestContext:
        vectors = self.loaded.tokenizer.user_features.item_vectors
        offset = None if vectors is None else profile.offset(self.catalogue, vectors)
        return RequestContext(request.context_overrides, prompt=_joined(phrases, said), offset=offset)

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

    def named_in(self, text: str) -> list[Meaning]:
        """Returns the values that a text names, whatever it says of them."""
        return self._rules.named_in(text)

    def creators_of(self, item: int) -> list[str]:
        """Returns who made an item, a catalogue row, by the columns that prompts name with "by"."""
        cells = [self.catalogue.column(name)[item].as_py() for name, role in self.prompt_columns if role == "by"]
        return [value for cell in cells for value in values_of(cell)]

    def _said(self, understood: Understanding, refusals: bool = True) -> str:
        """Returns the prompt as the model reads it; of too many lines, the latest that fit.

        Without `refusals`, the negative prompt says what is refused.
        """
        said, encode = "", self.loaded.tokenizer.vocabulary.encode if self.prompt_columns else None
        for line in reversed(understood.lines(refusals)):
            longer = f"{line}, {said}" if said else line
            if said and encode and len(encode(longer)) > self.loaded.tokenizer.longest_served_prompt:
                break
            said = longer
        return said

    def profile_of(self, request: Request) -> Profile:
        """Returns the entries of the request's profile that hold today."""
        return request.profile.holding(self._today())

    def _phrases(self, profile: Profile, said: str) -> list[Phrase]:
        """Returns the phrases of a profile; of too many the strongest that fit beside the prompt, then the latest."""
        tokenizer, kept = self.loaded.tokenizer, list[int]()
        phrases = profile.phrases(self.catalogue, self.prompt_columns) if self.prompt_columns else []
        for place in sorted(range(len(phrases)), key=lambda place: (-phrases[place].strength, -place)):
            longer = _joined([phrases[one] for one in sorted([*kept, place])], said)
            if len(tokenizer.vocabulary.encode(longer)) > tokenizer.longest_served_prompt:
                break
            kept.append(place)
        return [phrases[place] for place in sorted(kept)]

    def filter_of(self, request: Request, item_filter: Filter = EVERYTHING) -> Filter:
        """Returns `item_filter` with the hard filters of the prompt and the items that the profile denies."""
        return self._restricted(item_filter, self.profile_of(request), self.understand(request))

    def _restricted(self, item_filter: Filter, profile: Profile, understood: Understanding) -> Filter:
        if understood.parts:
            item_filter = understood.restrict(item_filter)
        if profile.entries:
            item_filter = profile.checked(self.catalogue).restrict(item_filter, self.catalogue)
        return item_filter

    def _negative_prompt(self, understood: Understanding, phrases: AbstractSequence[Phrase]) -> str:
        """Returns a prompt for what profile and prompt refuse and no rule excludes."""
        if not self._with_negative_prompts:
            return ""
        of_profile = self._rules.negative_prompt(". ".join(phrase.text for phrase in phrases)) if phrases else ""
        return ", ".join(filter(None, (of_profile, understood.negative_prompt())))

    def shortage(
        self,
        request: Request,
        found: Recommendations,
        item_filter: Filter = EVERYTHING,
        options: Options | None = None,
    ) -> Shortage | None:
        """Returns what could be loosened if the rules of the prompt leave fewer items than asked for, else None.

        `options` are those of the search, by default those of the engine.
        """
        options = options or self.options
        rules = [(part.number, part) for part in self.understand(request).parts if part.rule]
        excluded = request.history if options.exclude_history else ()

        def eligible(request: Request) -> int:
            passing = self.filter_of(request, item_filter).mask(len(self.catalogue), self.catalogue)
            passing[np.asarray(excluded, np.int64)] = False
            return int(passing.sum())

        def loosened(*numbers: int) -> Request:
            return dataclasses.replace(request, parts_off=request.parts_off | set(numbers))

        if len(found.items) >= options.top or not rules or (left := eligible(request)) >= options.top:
            return None
        without = {number: eligible(loosened(number)) for number, _ in rules}
        # What is asked for is loosened before what is refused.
        best, _ = max(rules, key=lambda rule: (without[rule[0]] > left and rule[1].kind == ONLY, without[rule[0]]))
        off = [best] if without[best] > left else [number for number, part in rules if part.kind == ONLY]
        if not off or eligible(loosened(*off)) <= left:
            return Shortage(left, without)
        query = Query(loosened(*off), options, item_filter)
        return Shortage(left, without, tuple(off), self.search([self.prepare(query)])[0])

    def encode(
        self, requests: AbstractSequence[Request], contexts: AbstractSequence[RequestContext], room: int = 0
    ) -> Histories:
        """Returns the encoder inputs of requests in `contexts`. Raises PromptError and DataError."""
        names, items = [request.name for request in requests], [request.history for request in requests]
        return self.loaded.histories(names, items, contexts=contexts, room=room)

    def score(
        self,
        requests: AbstractSequence[Request],
        contexts: AbstractSequence[RequestContext],
        items: AbstractSequence[int] | np.ndarray,
    ) -> np.ndarray:
        """Returns float32[requests, items]: log-probabilities of catalogue rows after each request, before guidance."""
        histories, tokenizer = self.encode(requests, contexts), self.loaded.tokenizer
        items, shares = np.asarray(items), None
        if histories.transitions is not None:
            # Of the items that the model reads, as in a search.
            read = [request.history[-self.loaded.max_history :] for request in requests]
            shares = self._log_shares(read, items)
            histories = histories._replace(transitions=None)
        targets = np.tile(tokenizer.items[items], (len(requests), 1, 1))
        shape, last = targets.shape[:2], histories.positions.max(axis=1, keepdims=True)
        last = np.broadcast_to(last, shape).astype(np.int32)
        return self.loaded.log_probabilities(
            Examples(histories, targets, np.ones(shape, np.int32), last, log_shares=shares)
        )

    def _log_shares(self, histories: AbstractSequence[np.ndarray], items: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns `Examples.log_shares` of the same items after each history."""
        shares = self.loaded.tokenizer.code_shares
        assert shares is not None  # else there are no transitions
        stop = np.repeat(np.cumsum([len(one) for one in histories]), len(items))
        start = stop - np.repeat([len(one) for one in histories], len(items))
        found = shares.log_shares(np.concatenate(histories), start, stop, np.tile(items, len(histories)), None)
        return tuple(one.reshape(len(histories), len(items), -1) for one in found)

    def prepare(self, query: Query) -> PreparedQuery:
        """Returns what the search of a query reads.

        Raises PromptError for a prompt that is too long or not supported, DataError and ProfileError for unknown
        features and columns and for a profile that matches nothing.
        """
        request, options, tokenizer = query.request, query.options, self.loaded.tokenizer
        profile, understood = self.profile_of(request), self.understand(request)
        said = self._said(understood, refusals=not self._with_negative_prompts)
        phrases = self._phrases(profile, said)
        context = self._context(request, profile, said, phrases)
        negative = self._negative_prompt(understood, phrases)
        wanted, refused = (
            options.guidance * (1.0 if request.prompt else _strength(phrases, against)) for against in (False, True)
        )
        guidance = 2 if negative else int(bool(context.prompt) and wanted != 1)
        pieces = max(len(tokenizer.prompt(text)) for text in (context.prompt, negative))
        # Guided searches have room for a prompt, so that there are fewer forms.
        room = tokenizer.prompt_room(max(pieces, min(1, guidance)))
        kind = "sampled" if options.temperature else "diverse" if options.max_share < 1 else "plain"
        share_of = options.share_of if options.max_share < 1 else ""
        restriction = Restriction(
            self._restricted(query.filter, profile, understood),
            request.history.tolist() if options.exclude_history else (),
        )
        program = Program(kind, share_of, room, guidance)
        return PreparedQuery(query, context, negative, (wanted, refused), restriction, program)

    def _guidance(
        self, requests: AbstractSequence[Request], prepared: AbstractSequence[PreparedQuery]
    ) -> Guidance | None:
        """Returns the guidance by prompts and negative prompts, None if it equals plain conditioning."""
        guidance = max(one.program.guidance for one in prepared)
        room = max(one.program.room for one in prepared)
        if not guidance:
            return None

        def with_prompts(texts: AbstractSequence[str], room: int) -> Histories:
            contexts = [one.context._replace(prompt=text) for one, text in zip(prepared, texts, strict=True)]
            return self.encode(requests, contexts, room)

        strengths = np.array([one.strengths for one in prepared], np.float32)
        found = Guidance(with_prompts([""] * len(requests), 0), strengths[:, 0])
        if guidance == 1:
            return found
        against = np.where([bool(one.negative) for one in prepared], strengths[:, 1], np.float32(0))
        # Rows without a negative prompt have any, at strength 0: the same as the prompt needs no further encoding.
        negative = with_prompts([one.negative or one.context.prompt for one in prepared], room)
        return found._replace(negative=NegativePrompts(negative, against))

    def is_guided(self, request: Request) -> bool:
        """Returns whether the search for a request departs from the model's own distribution."""
        return self.prepare(Query(request, self.options)).program.guidance > 0

    def recommend(
        self, requests: AbstractSequence[Request], item_filter: Filter = EVERYTHING, guidance: float | None = None
    ) -> list[Recommendations]:
        """Returns the ranked list of each request, of items that pass `item_filter` and the filters of the request.

        `guidance` is the guidance strength, by default that of the options. Raises PromptError for prompts that are too
        long or not supported, DataError for unknown features and columns.
        """
        options = self.options if guidance is None else dataclasses.replace(self.options, guidance=guidance)
        seeds = range(options.seed, options.seed + len(requests))
        return self.search(
            [
                self.prepare(Query(request, dataclasses.replace(options, seed=seed), item_filter))
                for request, seed in zip(requests, seeds, strict=True)
            ]
        )

    def search(self, prepared: AbstractSequence[PreparedQuery]) -> list[Recommendations]:
        """Returns the ranked list of each query; all have the same kind of search, `max_beams` and `share_of`.

        Raises CatalogueError for more different filters than the index keeps.
        """
        requests, options = [one.query.request for one in prepared], [one.query.options for one in prepared]
        room = max(one.program.room for one in prepared)
        encoded = self.encode(requests, [one.context for one in prepared], room)
        guided, restrictions = self._guidance(requests, prepared), [one.restriction for one in prepared]
        searcher, params, tops = self.searcher, self.loaded.params, np.array([one.top for one in options])
        sample = _sampling(options) if options[0].temperature else None
        diversity = self._diversity(options)
        if diversity is not None:
            found = searcher.diverse_search(params, encoded, restrictions, diversity, sample, guided, tops)
        else:
            constraints, index = searcher.live.constrained(restrictions)
            beams = max(options[0].max_beams, searcher.beams)
            found = searcher.widening_search(params, encoded, beams, tops, constraints, sample, guided, index)
        certified = (found.scores >= found.bound[:, None]) & (found.items >= 0)
        return [
            Recommendations(items[:top][items[:top] >= 0], scores[:top][items[:top] >= 0], int(sure[:top].sum()))
            for items, scores, sure, top in zip(found.items, found.scores, certified, tops, strict=True)
        ]

    def _diversity(self, options: AbstractSequence[Options]) -> Diversity | None:
        if all(one.max_share == 1 for one in options):
            return None
        beams, column = self.searcher.beams, options[0].share_of
        most_items = np.array([max(1, shares.floor(one.max_share, one.top)) for one in options], np.int32)
        if column:
            return Diversity(None, most_items, self.catalogue.groups(column))
        return Diversity(np.array([shares.ceil(one.max_share, beams) for one in options], np.int32), most_items, None)


def _strength(phrases: AbstractSequence[Phrase], negative: bool) -> float:
    """Returns the mean strength of the phrases that are negative, or are not; 1 if there are none."""
    strengths = [one.strength for one in phrases if one.negative == negative]
    return float(np.mean(strengths)) if strengths else 1.0


def _joined(phrases: AbstractSequence[Phrase], prompt: str) -> str:
    return ", ".join([*(phrase.text for phrase in phrases), *([prompt] if prompt else [])])


def _sampling(options: AbstractSequence[Options]) -> Sampling:
    temperature = np.array([one.temperature for one in options], np.float32)
    top_p = None if all(one.top_p == 1 for one in options) else np.array([one.top_p for one in options], np.float32)
    seeds = np.array([one.seed for one in options], np.uint64)
    return Sampling(temperature, top_p, seeds.astype(np.uint32).view(np.int32))
