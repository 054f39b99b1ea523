"""A trained model and a catalogue, joined: histories in, items out; the batch is cut over the devices of a mesh."""

import functools

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from genrec import sharding
from genrec.data.examples import Histories
from genrec.decoding.beam_search import Beams, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.semantic_ids.codes import SemanticIds


class Retriever:
    """Compiled once per shape of the histories; `params` are an argument, so that new ones need no compilation."""

    def __init__(self, graphdef: nnx.GraphDef, semantic_ids: SemanticIds, beams: int, mesh: Mesh | None = None):
        """`graphdef` as `nnx.split(model)` gives it, of a model with `start` and `step` (genrec.models.recommender).

        `mesh` is by default one device.
        """
        self.beams, self._mesh = beams, mesh or sharding.one_device()
        index = CatalogueIndex.build(semantic_ids.codes, semantic_ids.sizes)
        whole = sharding.named(self._mesh)
        self._index = jax.tree.map(lambda x: sharding.put(self._mesh, np.asarray(x)), index)

        # Every process gets all beams: what is made of them, such as metrics, is then the same everywhere.
        @functools.partial(jax.jit, out_shardings=whole)
        def search(params: nnx.State, index: CatalogueIndex, histories: Histories) -> Beams:
            model = nnx.merge(graphdef, params)
            step = functools.partial(model.step, model.start(histories))
            return beam_search(step, index, histories.tokens.shape[0], beams)

        self._search = search

    def round_up(self, rows: int) -> int:
        """The least batch of at least `rows` that the devices can share evenly."""
        parts = sharding.parts(self._mesh, "batch")
        return -(-rows // parts) * parts

    def __call__(self, params: nnx.State, histories: Histories) -> Beams:
        """The beams of each row of `histories`, still being computed when this returns.

        The number of rows must be one that `round_up` gives. `params` lie on the mesh.
        """
        rows = len(histories.tokens)
        own = sharding.own_rows(self._mesh, rows)
        placed = sharding.put_rows(self._mesh, jax.tree.map(lambda x: x[own], histories), rows)
        with jax.set_mesh(self._mesh):
            return self._search(params, self._index, placed)
