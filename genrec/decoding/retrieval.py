"""Retrieval of items for histories by a trained model and a catalogue index, with batches sharded over a mesh."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from genrec import sharding
from genrec.decoding.beam_search import Diversity, RankedItems
from genrec.decoding.catalogue_index import CatalogueIndex, Constraints
from genrec.decoding.guidance import Guidance
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.sampling import Sampling
from genrec.decoding.search_inputs import Inputs
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories

if TYPE_CHECKING:  # Flax, which serving does without
    from flax import nnx

MIN_ROWS = 32  # smallest batch that is searched again


class Searcher:
    """Searches of a catalogue that widen, or are repeated for diversity; `_run` computes one of them."""

    def __init__(self, live: LiveIndex, beams: int, top: int | None = None):
        """`beams` is the width of a search, `top` the length of the lists, by default the width."""
        self.live, self.beams, self.top = live, beams, beams if top is None else top

    def _run(
        self,
        params: Any,
        inputs: Inputs[np.ndarray],
        groups: np.ndarray | None,
        width: int,
        index: CatalogueIndex,
    ) -> Any:
        """Returns the `RankedItems` of inputs, by a search of `index` with `width` beams."""
        raise NotImplementedError

    def round_up(self, rows: int) -> int:
        """Returns the smallest batch of at least `rows` that divides evenly among the devices."""
        parts = sharding.parts(self.live.mesh, "batch")
        return -(-rows // parts) * parts

    def excluding(self, exclude: Sequence[np.ndarray] | None) -> Constraints[np.ndarray] | None:
        """Returns the constraints of searches without the catalogue rows int[n] of each; None for no constraints."""
        return None if exclude is None else self.live.constraints([Restriction(exclude=items) for items in exclude])

    def __call__(
        self,
        params: Any,
        histories: Histories,
        constraints: Constraints[np.ndarray] | None = None,
        sampling: Sampling[np.ndarray] | None = None,
        diversity: Diversity[np.ndarray] | None = None,
        guidance: Guidance[np.ndarray] | None = None,
        beams: int | None = None,
    ) -> RankedItems[jax.Array]:
        """Returns the items of each row of `histories`, computed asynchronously.

        The number of rows must be a result of `round_up`. `params` are on the mesh, all other inputs in host memory.
        `beams` is the width of this search.
        """
        return self._search(params, Inputs(histories, constraints, sampling, diversity, guidance), beams)

    def _search(
        self, params: Any, inputs: Inputs[np.ndarray], beams: int | None = None, index: CatalogueIndex | None = None
    ) -> RankedItems[jax.Array]:
        groups, diversity = None, inputs.diversity
        if diversity is not None and diversity.groups is not None:
            groups = diversity.groups
            inputs = inputs._replace(diversity=diversity._replace(groups=None))
        width, index = self.beams if beams is None else beams, self.live.index if index is None else index
        return self._run(params, inputs, groups, width, index)

    def widening_search(
        self,
        params: Any,
        histories: Histories,
        max_beams: int,
        certify: int | np.ndarray,
        constraints: Constraints[np.ndarray] | None = None,
        sampling: Sampling[np.ndarray] | None = None,
        guidance: Guidance[np.ndarray] | None = None,
        index: CatalogueIndex | None = None,
    ) -> RankedItems[np.ndarray]:
        """Searches, doubling the beams up to `max_beams` until the first `certify` items are certified.

        `index` is that of the constraints, by default the live one. `certify` is one number, or int[rows]. Only rows
        that are not certified are searched again; sampled items never are.
        """
        inputs = Inputs(histories, constraints, sampling, None, guidance)
        found = self._search(params, inputs, index=index).on_host()
        beams = self.beams
        while sampling is None and beams < max_beams and len(rows := np.flatnonzero(~_certified(found, certify))):
            beams = min(2 * beams, max_beams)
            again = self._search(params, take(inputs, self._padded(rows, len(found.bound))), beams, index).on_host()
            found.items[rows], found.scores[rows] = again.items[: len(rows)], again.scores[: len(rows)]
            found.bound[rows] = again.bound[: len(rows)]
        return found

    def diverse_search(
        self,
        params: Any,
        histories: Histories,
        restrictions: Sequence[Restriction],
        diversity: Diversity[np.ndarray],
        sampling: Sampling[np.ndarray] | None = None,
        guidance: Guidance[np.ndarray] | None = None,
        tops: np.ndarray | None = None,
    ) -> RankedItems[np.ndarray]:
        """Searches with a limit per group, and again for lists that are short because most beams have the same group.

        The next search excludes all items whose group is at its limit, and so finds the best of the others, until the
        list has `tops` int[rows] items, by default `top`, or no item is left. Each such row needs a filter of its own,
        for which the index must have room.
        """
        constraints, index = self.live.constrained(restrictions)
        inputs = Inputs(histories, constraints, sampling, diversity, guidance)
        found = self._search(params, inputs, index=index).on_host()
        groups = diversity.groups
        if groups is None:  # first codes are limited during the search
            return found
        inputs = inputs._replace(diversity=diversity._replace(groups=None))
        tops = np.full(len(found.bound), self.top) if tops is None else np.minimum(tops, self.top)
        rows = np.flatnonzero((found.items >= 0).sum(axis=1) < tops)
        while len(rows):
            padded = self._padded(rows, len(found.bound))
            narrowed = {
                row: _narrowed(restrictions[row], found.items[row], groups, diversity.max_items[row])
                for row in rows.tolist()
            }
            part = take(inputs, padded)
            constraints, index = self.live.constrained([narrowed[row] for row in padded.tolist()])
            part = part._replace(constraints=constraints, diversity=part.diversity._replace(groups=groups))
            again = self._search(params, part, index=index).on_host()
            before = (found.items[rows] >= 0).sum(axis=1)
            for row, items, scores in zip(rows, again.items, again.scores, strict=False):
                items, scores = np.append(found.items[row], items), np.append(found.scores[row], scores)
                order = np.arange(2 * self.top) if sampling is not None else np.argsort(-scores, kind="stable")
                kept = order[_within_limit(items[order], groups, diversity.max_items[row])][: self.top]
                found.items[row, : len(kept)], found.scores[row, : len(kept)] = items[kept], scores[kept]
            grown = (found.items[rows] >= 0).sum(axis=1) > before
            rows = rows[grown & ((found.items[rows] >= 0).sum(axis=1) < tops[rows])]
        return found

    def _padded(self, rows: np.ndarray, batch: int) -> np.ndarray:
        """Repeats rows of a batch up to one of few batch sizes, each of which is a compilation."""
        return np.resize(rows, self.round_up(min(batch, max(MIN_ROWS, 1 << (len(rows) - 1).bit_length()))))


class Retriever(Searcher):
    """Beam search with a model, compiled once per shape of its inputs.

    Parameters, catalogue and filters are arguments of the compiled function: new ones need no compilation.
    """

    def __init__(self, graphdef: "nnx.GraphDef", live: LiveIndex, beams: int, top: int | None = None):
        """`graphdef` is of a model with `start`, `step` and `finish` (models.recommender), from `nnx.split(model)`.

        For `beams` and `top` see `Searcher`.
        """
        from genrec.decoding.search import search_function  # here, as serving does without Flax

        super().__init__(live, beams, top)
        self.graphdef = graphdef
        self.compilations = 0  # number of different shapes that were searched

        def count() -> None:
            self.compilations += 1  # runs once per shape, when traced

        self._compiled = search_function(graphdef, live.mesh, self.top, count)

    @staticmethod
    def of_table(
        graphdef: "nnx.GraphDef", table: SortedTable, beams: int, mesh: Mesh | None = None, sharded: bool = False
    ) -> "Retriever":
        """Returns a retriever of all items of a table; for `mesh` and `sharded` see `LiveIndex`."""
        return Retriever(graphdef, LiveIndex(table, filters=0, mesh=mesh, sharded=sharded), beams)

    def _run(
        self,
        params: Any,
        inputs: Inputs[np.ndarray],
        groups: np.ndarray | None,
        width: int,
        index: CatalogueIndex,
    ) -> RankedItems[jax.Array]:
        mesh, rows = self.live.mesh, len(inputs.histories.tokens)
        own = in_index_form(take(inputs, sharding.own_rows(mesh, rows)), self.live)
        placed, of_items = sharding.put_rows(mesh, own, rows), None if groups is None else sharding.put(mesh, groups)
        with jax.set_mesh(mesh):
            return self._compiled(params, index, of_items, placed, width)


def in_index_form(inputs: Inputs[np.ndarray], live: LiveIndex) -> Inputs[np.ndarray]:
    """Returns the inputs with transitions and mentions in the form of the index, and in that form only."""

    def converted(histories: Histories) -> Histories:
        mentions = histories.mentions
        if mentions is not None:
            of_rows = live.in_rows(np.asarray(mentions.items))
            mentions = dataclasses.replace(mentions, items=of_rows, catalogue=None)
        return histories._replace(transitions=None, mentions=mentions)

    guidance, transitions = inputs.guidance, inputs.histories.transitions
    if guidance is not None:  # prompts do not change the transitions
        unconditional, negative = converted(guidance.unconditional), guidance.negative
        if negative is not None:
            negative = negative._replace(histories=converted(negative.histories))
        guidance = guidance._replace(unconditional=unconditional, negative=negative)
    cumulated = None if transitions is None else live.cumulated(np.asarray(transitions))
    return inputs._replace(histories=converted(inputs.histories), guidance=guidance, transitions=cumulated)


def _certified(found: RankedItems[np.ndarray], tops: int | np.ndarray) -> np.ndarray:
    """Returns bool[rows]: whether the first `tops` items of each list are certified."""
    last = np.broadcast_to(np.minimum(tops, found.scores.shape[1]), len(found.bound)) - 1
    return found.bound <= np.take_along_axis(found.scores, last[:, None], axis=1)[:, 0]


def _narrowed(restriction: Restriction, items: np.ndarray, groups: np.ndarray, limit: int) -> Restriction:
    """Returns the restriction without the items of a list and the groups of which the list has `limit` items."""
    items = items[items >= 0]
    values, counts = np.unique(groups[items], return_counts=True)
    full = np.flatnonzero(np.isin(groups, values[counts >= limit]))
    wanted = restriction.filter
    wanted = dataclasses.replace(wanted, deny=wanted.deny | frozenset(full.tolist()))
    return Restriction(wanted, [*restriction.exclude, *items.tolist()])


def _within_limit(items: np.ndarray, groups: np.ndarray, limit: int) -> np.ndarray:
    """Returns int[n]: the places of a list's items that are within the first `limit` of their group; -1 is no item."""
    counts: collections.Counter[int] = collections.Counter()
    places = []
    for place in np.flatnonzero(items >= 0):
        group = int(groups[items[place]])
        counts[group] += 1
        if counts[group] <= limit:
            places.append(place)
    return np.array(places, np.int64)


def take(tree: Any, rows: np.ndarray) -> Any:
    """Returns the rows of a tree of arrays."""
    return jax.tree.map(lambda x: x[rows], tree)
