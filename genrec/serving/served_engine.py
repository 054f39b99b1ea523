"""Engine of a bundle: recommends, scores and explains by compiled programs, over a catalogue that changes meanwhile."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding.live_index import Restriction
from genrec.input_pipeline.context import RequestContext
from genrec.ranking.lists import GENERATOR
from genrec.serving import bundle, search_programs
from genrec.serving.bundle import Bundle, BundleError, Card
from genrec.serving.engine import Engine
from genrec.serving.explanations import Explainer, Explanation
from genrec.serving.queries import Options, PreparedQuery, Program, Query, Recommendations, Shortage
from genrec.serving.requests import Request
from genrec.serving.search_programs import CACHE_BYTES, EncodedHistories
from genrec.serving.served_catalogue import ItemChange, ServedCatalogue
from genrec.serving.served_model import ServedModel
from genrec.serving.served_sources import MultiStage, ServedSources
from genrec.serving.understanding import Understanding

__all__ = [
    "BundleError",
    "Card",
    "ItemChange",
    "Options",
    "PreparedQuery",
    "Query",
    "Recommendations",
    "ServedEngine",
    "Shortage",
]


class ServedEngine:
    """Answers requests from a bundle, in any number of threads; but a change must run alone."""

    def __init__(self, of: Bundle, cache_bytes: int = CACHE_BYTES):
        """`cache_bytes` limits the cache of encoded histories."""
        self.card, self._model = of.card, ServedModel(of, cache_bytes)
        self.batch_sizes = self.card.batch_sizes
        options = Options(top=min(10, self.card.beams), beams=self.card.beams)
        self.engine = Engine(self._model, options, self.batch_sizes[-1])
        self._own_options = functools.lru_cache(maxsize=4096)(self._with_beams)
        self._explainer = Explainer(self.engine)
        multi_stage = None
        if bundle.MULTI_STAGE in of:
            popularity = of.arrays(bundle.POPULARITY)["counts"]
            multi_stage = MultiStage(of.json(bundle.MULTI_STAGE), self._model.ranker, popularity)
        catalogue, max_history = self._model.dataset.catalogue, self._model.max_history
        self._sources = ServedSources(self._model.scorers, multi_stage, self._generate, catalogue, max_history)
        quantize = None
        if "quantize" in self._model.programs.names:
            quantize = self._quantize
        self._items = ServedCatalogue(
            self._model.dataset.catalogue,
            self._model.semantic_ids.codes,
            self.card.sizes,
            self.card.item_capacity,
            self.card.embeddings,
            self._model.new_items,
            quantize,
        )

    @staticmethod
    def load(folder: epath.PathLike, cache_bytes: int = CACHE_BYTES) -> "ServedEngine":
        """Loads the bundle in a folder, and compares its files with their checksums.

        Raises BundleError if it is missing, changed, or of another version.
        """
        found = Bundle(folder)
        found.check()
        return ServedEngine(found, cache_bytes)

    @property
    def catalogue(self) -> Catalogue:
        """All items, also those that were added or removed since the bundle was loaded."""
        return self.engine.catalogue

    @property
    def removed(self) -> frozenset[int]:
        """The rows of the catalogue whose items were removed."""
        return self._items.removed

    @property
    def takes_prompts(self) -> bool:
        """True if the model was trained with prompts; another one refuses them."""
        return bool(self.engine.prompt_columns)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of lists: the generator, and others of the bundle."""
        return (GENERATOR, *self._sources.names)

    @property
    def compilations(self) -> int:
        """How many programs were compiled so far: all of them, once `warm_up` returned."""
        return self._model.programs.compilations

    @property
    def cache(self) -> EncodedHistories:
        """The cache of encoded histories, which counts hits and misses."""
        return self._model.search.cache

    def sizes_of(self, program: Program) -> tuple[int, ...]:
        """Returns the batch sizes, ascending, in which queries of a program are searched at once."""
        if program.kind not in search_programs.KINDS:
            return self.batch_sizes
        return search_programs.batch_sizes(program, self._model.tokenizer, self.batch_sizes)

    def warm_up(self) -> None:
        """Compiles all programs, so that none is compiled later, and makes a first search."""
        for name in self._model.programs.names:
            self._model.programs.compile(name)
        request = Request("", np.zeros(0, np.int32))
        self.recommend([Query(request, self.engine.options, EVERYTHING)])

    def prepare(self, query: Query) -> PreparedQuery:
        """Returns what the search of a query reads; those of the same `program` can be searched together.

        Raises PromptError, DataError and ProfileError for a request, ConfigError for options, and BundleError for a
        source, that cannot be met.
        """
        if query.source != GENERATOR:
            return self._sources.prepare(query, self.engine)
        return self.engine.prepare(self._own(query))

    def _own(self, query: Query) -> Query:
        """Returns a query with the beams of the bundle; raises ConfigError if they are too few for its list."""
        return dataclasses.replace(query, options=self._own_options(query.options))

    def _with_beams(self, options: Options) -> Options:
        beams = self.card.beams
        if options.top > beams:
            raise config.ConfigError(f"top={options.top}: this bundle finds at most {beams} items, one for each beam")
        plain = options.temperature == 0 and options.max_share == 1
        return dataclasses.replace(options, beams=beams, max_beams=self.card.max_beams if plain else 0)

    def recommend(self, queries: Sequence[Query]) -> list[Recommendations]:
        """Returns the ranked list of each query, of any programs; for errors see `prepare`."""
        return self.search([self.prepare(query) for query in queries])

    def search(self, prepared: Sequence[PreparedQuery]) -> list[Recommendations]:
        """Returns the ranked list of each query. Those of different programs are searched one program after another."""
        places: dict[Program, list[int]] = {}
        for place, one in enumerate(prepared):
            places.setdefault(one.program, []).append(place)
        found: dict[int, Recommendations] = {}
        for of_program in places.values():
            for start in range(0, len(of_program), self.batch_sizes[-1]):
                some = of_program[start : start + self.batch_sizes[-1]]
                queries = [prepared[place] for place in some]
                is_generated = queries[0].query.source == GENERATOR
                lists = self.engine.search(queries) if is_generated else self._sources.search(queries)
                found.update(zip(some, lists, strict=True))
        return [found[place] for place in range(len(prepared))]

    def _generate(self, queries: Sequence[Query], restrictions: Sequence[Restriction]) -> list[Recommendations]:
        """Returns the list of the generator for each query, with a restriction in place of its own."""
        prepared = [self.prepare(query) for query in queries]
        return self.search([one._replace(restriction=other) for one, other in zip(prepared, restrictions, strict=True)])

    def score(self, request: Request, items: Sequence[int]) -> np.ndarray:
        """Returns float32[n]: log-probabilities of items, catalogue rows, after a request, before guidance."""
        if not len(items):
            return np.zeros(0, np.float32)
        return self.engine.score([request], [self.engine.context_of(request)], items)[0]

    @property
    def has_ranker(self) -> bool:
        """True if the bundle has a ranker, which `rank` needs."""
        return self._model.ranker is not None

    def rank(self, request: Request, items: Sequence[int]) -> np.ndarray:
        """Returns float32[n]: scores of items, catalogue rows, by the ranker, which reads user and history alone.

        They are comparable for the same items and history. Raises BundleError for a bundle without a ranker.
        """
        if self._model.ranker is None:
            raise BundleError("this bundle has no ranker. Train one, launch/train_sasrec.py, and export it again.")
        if not len(items):
            return np.zeros(0, np.float32)
        return self._model.ranker.score([request.name], [request.history], np.asarray(items, np.int32)[None])[0]

    def explain(self, request: Request, items: Sequence[int]) -> list[Explanation]:
        """Returns the explanation of each item, a catalogue row."""
        return self._explainer.explain(request, items)

    def understand(self, request: Request) -> Understanding:
        """Returns what is understood of the prompt; see `Engine.understand`."""
        return self.engine.understand(request)

    def filter_of(self, request: Request, item_filter: Filter = EVERYTHING) -> Filter:
        """Returns `item_filter` with the hard filters of the request; see `Engine.filter_of`."""
        return self.engine.filter_of(request, item_filter)

    def context_of(self, request: Request) -> RequestContext:
        """Returns the context of a request; see `Engine.context_of`."""
        return self.engine.context_of(request)

    def shortage(self, query: Query, found: Recommendations) -> Shortage | None:
        """Returns what could be loosened if rules of the prompt leave a short list, else None; may search."""
        own = self._own(query)
        removed = dataclasses.replace(own.filter, deny=own.filter.deny | self.removed)
        return self.engine.shortage(own.request, found, removed, own.options)

    def check_change(self, change: ItemChange) -> None:
        """Raises CatalogueError for a change that the catalogue of this bundle never takes; for any thread."""
        self._items.check(change)

    def change_items(self, changes: Sequence[ItemChange]) -> None:
        """Adds, changes and removes items, for all later searches.

        Raises CatalogueError or SemanticIdError for a change that cannot be made. Whatever is raised, nothing is
        changed.
        """
        if not changes:
            return
        grown = self._items.changed(changes)
        try:  # all that may fail, the index at the end, before anything is taken
            model = self._model.grown(grown.catalogue, grown.codes, grown.vectors)
            words = self.engine.words_of(grown.catalogue)
            self._model.search.live.update(grown.add, model.codes[grown.add], grown.remove, grown.catalogue)
        except BaseException:
            self._items.discard(grown)
            raise
        self._model.use(model)
        self._items.use(grown)
        self._sources.use(grown.catalogue, grown.removed)
        self.engine.use(words)
        self._explainer = Explainer(self.engine)

    def _quantize(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        learned, distances = self._model.programs("quantize", vector)
        return np.asarray(learned), np.asarray(distances)
