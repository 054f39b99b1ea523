"""A trained model and a catalogue, joined: histories in, items out; the batch is cut over the devices of a mesh."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from genrec import sharding
from genrec.data.examples import Histories
from genrec.decoding.beam_search import Beams, Diversity, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex, Constraints
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.sampling import Sampling

FEWEST_ROWS = 32  # of a batch that is searched again


class Retriever:
    """Compiled once per shape of its inputs; parameters, catalogue, filters and the like are arguments.

    So new ones need no compilation: `compilations` counts.
    """

    def __init__(self, graphdef: nnx.GraphDef, live: LiveIndex, beams: int, top: int | None = None):
        """`graphdef` as `nnx.split(model)` gives it, of a model with `start`, `step` and `finish` (models.recommender).

        `beams` is the width of a search, `top` the length of the lists, by default the same.
        """
        self.beams, self.top, self.live = beams, beams if top is None else top, live

        # Every process gets all beams: what is made of them, such as metrics, is then the same everywhere.
        @functools.partial(jax.jit, static_argnames="width", out_shardings=sharding.named(live.mesh))
        def search(
            params: nnx.State, index: CatalogueIndex, groups: jax.Array | None, rows: tuple, width: int
        ) -> Beams:
            histories, constraints, sample, diversity = rows
            if diversity is not None:
                diversity = diversity._replace(groups=groups)
            model = nnx.merge(graphdef, params)
            memory = model.start(histories)
            step, finish = functools.partial(model.step, memory), functools.partial(model.finish, memory)
            batch = histories.tokens.shape[0]
            return beam_search(step, index, batch, width, self.top, constraints, sample, diversity, finish)

        self._search = search

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
        beams: int | None = None,
    ) -> Beams:
        """The items of each row of `histories`, still being computed when this returns.

        The number of rows must be one that `round_up` gives. `params` lie on the mesh; all else is in NumPy arrays.
        `beams` is the width of this search.
        """
        mesh, rows = self.live.mesh, len(histories.tokens)
        groups = None
        if diversity is not None and diversity.groups is not None:
            groups, diversity = sharding.put(mesh, diversity.groups), diversity._replace(groups=None)
        own = sharding.own_rows(mesh, rows)
        by_row = _take((histories, constraints, sample, diversity), own)
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
    ) -> Beams:
        """As a call, but rows whose first `certify` items are not certified are searched again, twice as wide.

        Until they are certified, or `max_beams` are reached. In NumPy arrays.
        """
        found = Beams(*map(np.array, self(params, histories, constraints)))
        beams = self.beams
        while beams < max_beams and len(rows := np.flatnonzero(~found.certified(certify))):
            beams = min(2 * beams, max_beams)
            count = self.round_up(min(len(found.bound), max(FEWEST_ROWS, 1 << (len(rows) - 1).bit_length())))
            part = _take((histories, constraints), np.resize(rows, count))  # filled up by repeating
            again = self(params, *part, beams=beams)
            for all_, new in zip(found, map(np.asarray, again), strict=True):
                all_[rows] = new[: len(rows)]
        return found


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)
