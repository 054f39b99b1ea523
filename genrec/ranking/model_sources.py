"""Trained models as sources of lists, and SASRec as a ranker of given items."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from genrec.decoding import length_buckets, loaded_model
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.loaded_model import LoadedModel
from genrec.decoding.retrieval import Retriever
from genrec.input_pipeline.examples import Histories
from genrec.progress import progress
from genrec.ranking.lists import Lists


class ModelSource:
    """The lists of a model that reads histories; compiles once for each of a few lengths of them."""

    def __init__(self, loaded: LoadedModel, retriever: Retriever | ExhaustiveRetriever, batch: int):
        """`retriever` finds lists by the model of `trained`, for `batch` users at a time."""
        self._loaded_model, self._retriever, self._batch = loaded, retriever, retriever.round_up(batch)

    @staticmethod
    def generator(loaded: LoadedModel, beams: int, batch: int) -> "ModelSource":
        """The lists of a beam search over all items of the catalogue."""
        return ModelSource(loaded, Retriever.over(loaded.graphdef, loaded.table, beams, loaded.mesh), batch)

    def recommend(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Lists:
        """See `lists.Source`. Raises ValueError for more items than the retriever's lists have."""
        if top > self._retriever.top:
            raise ValueError(f"{top} items wanted of lists of {self._retriever.top}")
        items = np.full((len(histories), top), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)
        search = functools.partial(self._retriever, self._loaded_model.params)
        for places, beams in self._each(user_ids, histories, lambda rows, places: search(rows)):
            items[places], scores[places] = beams.items[: len(places), :top], beams.scores[: len(places), :top]
        return Lists(items, scores)

    def _each(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        function: Callable[[Histories, np.ndarray], Any],
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """The places of the users of each batch, and function(their histories, places): one row a user, more follow."""
        lengths = np.minimum([len(history) for history in histories], self._loaded_model.max_history)
        planned = length_buckets.plan(lengths, self._batch, self._loaded_model.max_history)

        def run(batch: length_buckets.Batch) -> Any:
            # The last batch repeats a user until it is full; the copies are of no use.
            filled = np.append(batch.places, np.repeat(batch.places[:1], self._batch - len(batch.places)))
            names, chosen = [user_ids[place] for place in filled], [histories[place] for place in filled]
            return function(self._loaded_model.histories(names, chosen, batch.max_history), filled)

        for batch, found in length_buckets.ahead(progress(planned, "search"), run):
            yield batch.places, jax.device_get(found)


class SasRec(ModelSource):
    """SASRec of a work directory: a source, and a `multi_stage.Ranker`."""

    def __init__(self, loaded: LoadedModel, top: int, batch: int):
        """`trained` is what `trained.load_sasrec` gives; `top` the length of its lists."""
        items = len(loaded.dataset.catalogue)
        super().__init__(loaded, ExhaustiveRetriever(loaded.graphdef, items, top, loaded.mesh), batch)

    @staticmethod
    def load(workdir: epath.PathLike, top: int, batch: int, mesh: Mesh | None = None) -> "SasRec":
        """The best checkpoint of `workdir`; for errors see `trained.load_sasrec`."""
        return SasRec(loaded_model.load_sasrec(workdir, "best", mesh), top, batch)

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """float32[users, n]: log-likelihoods of items int32[users, n], catalogue rows, as the next; NaN for row -1."""
        found = np.full(items.shape, np.nan, np.float32)
        known = np.maximum(items, 0)

        def score(rows: Histories, places: np.ndarray) -> jax.Array:
            return self._retriever.score(self._loaded_model.params, rows, known[places])

        for places, scores in self._each(user_ids, histories, score):
            found[places] = scores[: len(places)]
        return np.where(items >= 0, found, np.nan)
