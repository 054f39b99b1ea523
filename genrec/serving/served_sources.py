"""Sources of lists beside the generator, from a bundle: SASRec, item-kNN, transitions, most popular, and multi-stage.

They read the user and the history alone. Filters, entries of profiles that block, and changes of the catalogue hold as
in searches. Items that were added since the bundle was made are in lists of the generator and of multi-stage alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from genrec.config import FinalScoring
from genrec.data.dataset import Catalogue
from genrec.data.filters import Filter
from genrec.decoding.live_index import Restriction
from genrec.input_pipeline.context import NO_OVERRIDES
from genrec.ranking import scoring
from genrec.ranking.lists import GENERATOR, MULTI_STAGE, Lists, Scorer, ranked
from genrec.ranking.multi_stage import MultiStageRecommender
from genrec.ranking.tree_scores import TreeScores
from genrec.serving.bundle import BundleError
from genrec.serving.engine import Engine
from genrec.serving.profiles import NO_PROFILE
from genrec.serving.queries import PreparedQuery, Program, Query, Recommendations
from genrec.serving.served_ranker import ServedRanker

FILTERS = 32  # whose items are kept between searches, a byte for each of the catalogue

# Makes lists of the generator for queries, with these restrictions in place of their own.
Generate = Callable[[Sequence[Query], Sequence[Restriction]], Sequence[Recommendations]]


class MultiStage(NamedTuple):
    """The multi-stage recommender of a bundle, but for its sources."""

    settings: Mapping[str, Any]  # content of the file of the bundle
    ranker: ServedRanker | None
    popularity: np.ndarray  # int64[items], training interactions


class _Known(NamedTuple):
    """A source whose lists have been made."""

    lists: Lists

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the lists; see `lists.Source`."""
        return self.lists


class ServedSources:
    """The sources of a bundle, over a catalogue that changes."""

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        multi_stage: MultiStage | None,
        generate: Generate,
        catalogue: Catalogue,
        max_history: int,
    ):
        """`scorers` are those that score items by themselves; `generate` makes lists of the generator.

        Of histories, the last `max_history` items are read, as in evaluations.
        """
        self._scorers, self._multi_stage = dict(scorers), multi_stage
        self._generate, self._max_history = generate, max_history
        trees = None if multi_stage is None else multi_stage.settings["trees"]
        self._trees = None if trees is None else TreeScores.from_json(trees)
        self.use(catalogue, frozenset())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""
        return (*self._scorers, *([] if self._multi_stage is None else [MULTI_STAGE]))

    def use(self, catalogue: Catalogue, removed: frozenset[int]) -> None:
        """Takes another catalogue, and the rows of its items that were removed."""

        def passing(item_filter: Filter) -> np.ndarray:
            found = item_filter.mask(len(catalogue), catalogue)
            found[np.fromiter(removed, np.int64, len(removed))] = False
            return found

        def rules() -> scoring.Rules:
            of = self._multi_stage
            assert of is not None  # checked by `prepare`
            later = np.zeros(len(catalogue) - len(of.popularity), np.int64)
            return scoring.Rules(_scoring(of.settings["scoring"]), catalogue, np.concatenate([of.popularity, later]))

        # Made when they are asked for: changes of the catalogue may be many.
        self._passing, self._items = functools.lru_cache(maxsize=FILTERS)(passing), len(catalogue)
        self._rules = functools.cache(rules)

    def prepare(self, query: Query, engine: Engine) -> PreparedQuery:
        """Returns a query with its restrictions; `engine` reads its profile.

        Raises BundleError for a source that the bundle does not have, and ProfileError.
        """
        if query.source not in self.names:
            raise BundleError(
                f"this bundle has no {query.source}; beside the generator it has {', '.join(self.names) or 'nothing'}. "
                "tools/export_bundle.py says what is missing."
            )
        request = query.request
        excluded = request.history.tolist() if query.options.exclude_history else ()
        restriction = Restriction(engine.filter_of(request, query.filter), excluded)
        return PreparedQuery(query, NO_OVERRIDES, "", (1.0, 1.0), restriction, Program(query.source))

    def search(self, prepared: Sequence[PreparedQuery]) -> list[Recommendations]:
        """Returns the list of each query, all of the same source. Raises DataError for unknown columns of filters."""
        source, tops = prepared[0].query.source, [one.query.options.top for one in prepared]
        if source == MULTI_STAGE:
            found = self._multi_stage_lists(prepared, tops)
        else:
            found = self._lists(source, prepared, max(tops))
        lengths = [int((items[:top] >= 0).sum()) for items, top in zip(found.items, tops, strict=True)]
        return [
            # A scorer scores every item: no other one is better. Multi-stage scores candidates.
            Recommendations(items[:length], scores[:length], 0 if source == MULTI_STAGE else length)
            for items, scores, length in zip(found.items, found.scores, lengths, strict=True)
        ]

    def _lists(self, source: str, prepared: Sequence[PreparedQuery], top: int) -> Lists:
        """Returns the lists of a scorer or of the generator."""
        if source == GENERATOR:
            queries = [self._for_generator(one.query, top) for one in prepared]
            return _as_lists(self._generate(queries, [one.restriction for one in prepared]), top)
        scored = self._scorers[source].scored(self._histories(prepared))
        return ranked(scored, len(prepared), top, self._eligible(prepared))

    def _for_generator(self, query: Query, top: int) -> Query:
        """Returns the query of the generator's list, which reads as much as that of an evaluation."""
        request = dataclasses.replace(
            query.request, history=query.request.history[-self._max_history :], profile=NO_PROFILE
        )
        return Query(request, dataclasses.replace(query.options, top=top))

    def _histories(self, prepared: Sequence[PreparedQuery]) -> list[np.ndarray]:
        return [one.query.request.history[-self._max_history :] for one in prepared]

    def _eligible(self, prepared: Sequence[PreparedQuery]) -> Iterator[np.ndarray]:
        """Yields bool[items] for each query, True for items that may be listed."""
        for one in prepared:
            passing = self._passing(one.restriction.filter)
            if len(one.restriction.exclude):
                passing = passing.copy()
                passing[np.asarray(one.restriction.exclude, np.int64)] = False
            yield passing

    def _multi_stage_lists(self, prepared: Sequence[PreparedQuery], tops: Sequence[int]) -> Lists:
        """Returns the final lists of the multi-stage recommender."""
        assert self._multi_stage is not None  # checked by `prepare`
        settings, ranker, _ = self._multi_stage
        rules = self._rules()
        per_source: int = settings["candidates"]
        lists = {name: _Known(self._lists(of, prepared, per_source)) for name, of in settings["sources"].items()}
        of_ranker = ranker.ranker if ranker is not None and settings["ranker"] else None
        recommender = MultiStageRecommender(lists, of_ranker, rules, settings["weights"], per_source, self._items)
        names = [one.query.request.name for one in prepared]
        _, found, _ = recommender.candidates(names, self._histories(prepared))
        scores = scoring.pool(found, settings["weights"]) if self._trees is None else self._trees.score(found)
        final = Lists(
            np.full((len(tops), max(tops)), -1, np.int32), np.full((len(tops), max(tops)), -np.inf, np.float32)
        )
        for row, top in enumerate(tops):  # shares of a list depend on its length
            items, of_items = rules.apply(found.items[[row]], scores[[row]], top)
            final.items[row, :top], final.scores[row, :top] = items[0], of_items[0]
        return final


def _scoring(fields: Mapping[str, Any]) -> FinalScoring:
    """Returns the rules of their JSON, which has lists for tuples."""
    given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in fields.items()}
    return FinalScoring(**given)


def _as_lists(found: Sequence[Recommendations], top: int) -> Lists:
    lists = Lists(np.full((len(found), top), -1, np.int32), np.full((len(found), top), -np.inf, np.float32))
    for row, one in enumerate(found):
        lists.items[row, : len(one.items)], lists.scores[row, : len(one.items)] = one.items, one.scores
    return lists
