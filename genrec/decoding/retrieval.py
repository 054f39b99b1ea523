"""A trained model and a catalogue, joined: histories in, items out."""

import functools

import jax
from flax import nnx

from genrec.data.examples import Histories
from genrec.decoding.beam_search import Beams, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.semantic_ids.codes import SemanticIds


class Retriever:
    """Compiled once per shape of the histories; `params` are an argument, so that new ones need no compilation."""

    def __init__(self, graphdef: nnx.GraphDef, semantic_ids: SemanticIds, beams: int):
        """`graphdef` as `nnx.split(model)` gives it, of a model with `start` and `step` (genrec.models.recommender)."""
        self.beams = beams
        self._index = CatalogueIndex.build(semantic_ids.codes, semantic_ids.sizes)

        @jax.jit
        def search(params: nnx.State, index: CatalogueIndex, histories: Histories) -> Beams:
            model = nnx.merge(graphdef, params)
            step = functools.partial(model.step, model.start(histories))
            return beam_search(step, index, histories.tokens.shape[0], beams)

        self._search = search

    def __call__(self, params: nnx.State, histories: Histories) -> Beams:
        """The beams of each row of `histories`, still being computed when this returns."""
        return self._search(params, self._index, jax.device_put(histories))
