"""A trained model and a catalogue, joined: histories in, items out; the batch is cut over the devices of a mesh."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from genrec import sharding
from genrec.decoding.beam_search import Diversity, RankedItems, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex, Constraints
from genrec.decoding.guidance import Guidance, decoder
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.sampling import Sampling
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories

FEWEST_ROWS = 32  # of a batch that is searched again


class Retriever:
    """Compiled once per shape of its inputs; parameters, catalogue, filters and the like are arguments.

    So new ones need no compilation: `compilations` counts.
    """

    def __init__(self, graphdef: nnx.GraphDef, live: LiveIndex, beams: int, top: int | None = None):
        """`graphdef` as `nnx.split(model)` gives it, of a model with `start`, `step` and `finish` (models.recommender).

        `beams` is the width of a search, `top` the length of the lists, by default the same.
        """
        self.graphdef, self.live = graphdef, live
        self.beams, self.top = beams, beams if top is None else top

        # Every process gets all beams: what is made of them, such as metrics, is then the same everywhere.
        @functools.partial(jax.jit, static_argnames="width", out_shardings=sharding.named(live.mesh))
        def search(
            params: nnx.State, index: CatalogueIndex, groups: jax.Array | None, rows: tuple, width: int
        ) -> RankedItems:
            histories, constraints, sample, diversity, guidance = rows
            if diversity is not None:
                diversity = diversity._replace(groups=groups)
            step, finish = decoder(nnx.merge(graphdef, params), histories, guidance)
            batch = histories.tokens.shape[0]
            return beam_search(step, index, batch, width, self.top, constraints, sample, diversity, finish)

        self._search = search

    @staticmethod
    def over(
        graphdef: nnx.GraphDef, table: SortedTable, beams: int, mesh: Mesh | None = None, sharded: bool = False
    ) -> "Retriever":
        """Of all items of a table, by the devices of `mesh`, by default one; `cut` as for `LiveIndex`."""
        return Retriever(graphdef, LiveIndex(table, filters=0, mesh=mesh, sharded=sharded), beams)

    @property
    def compilations(self) -> int:
        """How many different shapes have been searched, each of which was compiled."""
        return self._search._cache_size()

    def round_up(self, rows: int) -> int:
        """The least batch of at least `rows` that the devices can share evenly."""
        parts = sharding.parts(self.live.mesh, "batch")
        return -(-rows // parts) * parts

    def __call__(
        self,
        params: nnx.State,
        histories: Histories,
        constraints: Constraints | None = None,
        sample: Sampling | None = None,
        diversity: Diversity | None = None,
        guidance: Guidance | None = None,
        beams: int | None = None,
    ) -> RankedItems:
        """The items of each row of `histories`, still being computed when this returns.

        The number of rows must be one that `round_up` gives. `params` lie on the mesh; all else is in NumPy arrays.
        `guidance` says away from what the search is guided, `beams` is its width.
        """
        mesh, rows = self.live.mesh, len(histories.tokens)
        groups = None
        if diversity is not None and diversity.groups is not None:
            groups, diversity = sharding.put(mesh, diversity.groups), diversity._replace(groups=None)
        own = sharding.own_rows(mesh, rows)
        by_row = _take((histories, constraints, sample, diversity, guidance), own)
        placed = sharding.put_rows(mesh, by_row, rows)
        with jax.set_mesh(mesh):
            return self._search(params, self.live.index, groups, placed, self.beams if beams is None else beams)

    def widened(
        self,
        params: nnx.State,
        histories: Histories,
        max_beams: int,
        certify: int,
        constraints: Constraints | None = None,
        sample: Sampling | None = None,
        guidance: Guidance | None = None,
    ) -> RankedItems:
        """As a call, but rows whose first `certify` items are not certified are searched again, twice as wide.

        Until they are certified, or `max_beams` are reached; what is drawn never is, and stays. In NumPy arrays.
        """
        found = RankedItems(*map(np.array, self(params, histories, constraints, sample, guidance=guidance)))
        beams = self.beams
        while sample is None and beams < max_beams and len(rows := np.flatnonzero(~found.certified(certify))):
            beams = min(2 * beams, max_beams)
            chosen = self._filled_up(rows, len(found.bound))
            part, guided = _take((histories, constraints, sample), chosen), _take(guidance, chosen)
            again = self(params, *part, guidance=guided, beams=beams)
            for all_, new in zip(found, map(np.asarray, again), strict=True):
                all_[rows] = new[: len(rows)]
        return found

    def diverse(
        self,
        params: nnx.State,
        histories: Histories,
        restrictions: Sequence[Restriction],
        diversity: Diversity,
        sample: Sampling | None = None,
        guidance: Guidance | None = None,
    ) -> RankedItems:
        """As a call, but lists that come out short are filled by searching again.

        Where most beams are alike in an attribute, few of them may stand in a list. The next search leaves out all
        items of which the list has enough, and so finds the best of the others: until the list is full, or nothing is
        left that may stand in it. That takes a filter for each such row, and the index must have room for so many. In
        NumPy arrays.
        """
        constraints = self.live.constraints(restrictions)
        found = RankedItems(*map(np.array, self(params, histories, constraints, sample, diversity, guidance)))
        if diversity.groups is None:  # the search itself has seen to it
            return found
        by_row = histories, sample, diversity._replace(groups=None), guidance
        rows = np.flatnonzero(found.items[:, -1] < 0)
        while len(rows):
            filled_up = self._filled_up(rows, len(found.bound))
            narrowed = {row: _narrowed(restrictions[row], found.items[row], diversity, row) for row in rows}
            constraints = self.live.constraints([narrowed[row] for row in filled_up])
            part, more, limits, guided = _take(by_row, filled_up)
            again = self(params, part, constraints, more, limits._replace(groups=diversity.groups), guided)
            before = (found.items[rows] >= 0).sum(axis=1)
            for row, *more in zip(rows, np.asarray(again.items), np.asarray(again.scores), strict=False):
                both = [
                    np.concatenate(parts) for parts in zip((found.items[row], found.scores[row]), more, strict=True)
                ]
                order = np.arange(2 * self.top) if sample is not None else np.argsort(-both[1], kind="stable")
                kept = order[_within_limits(both[0][order], diversity, row)][: self.top]
                found.items[row, : len(kept)], found.scores[row, : len(kept)] = both[0][kept], both[1][kept]
            grown = (found.items[rows] >= 0).sum(axis=1) > before
            rows = rows[grown & (found.items[rows, -1] < 0)]
        return found

    def _filled_up(self, rows: np.ndarray, batch: int) -> np.ndarray:
        """The numbers of some rows of a batch, repeated until they make one of few sizes: each is compiled."""
        return np.resize(rows, self.round_up(min(batch, max(FEWEST_ROWS, 1 << (len(rows) - 1).bit_length()))))


def _narrowed(restriction: Restriction, items: np.ndarray, diversity: Diversity, row: int) -> Restriction:
    """Without the items of a list, and those of which it has enough."""
    items = items[items >= 0]
    values, counts = np.unique(diversity.groups[items], return_counts=True)
    full = np.flatnonzero(np.isin(diversity.groups, values[counts >= diversity.most_items[row]]))
    wanted = restriction.filter
    wanted = dataclasses.replace(wanted, deny=wanted.deny | frozenset(full.tolist()))
    return Restriction(wanted, [*restriction.exclude, *items.tolist()])


def _within_limits(items: np.ndarray, diversity: Diversity, row: int) -> np.ndarray:
    """int[n]: the places of a list's items, -1 for none, without those of which there are enough before them."""
    counts: collections.Counter[int] = collections.Counter()
    places = []
    for place in np.flatnonzero(items >= 0):
        group = int(diversity.groups[items[place]])
        counts[group] += 1
        if counts[group] <= diversity.most_items[row]:
            places.append(place)
    return np.array(places, np.int64)


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)
