"""Trained models as candidate sources, and SASRec as a scorer of given items."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from genrec.decoding import length_buckets, loaded_model
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.loaded_model import LoadedGenerator, LoadedModel
from genrec.decoding.retrieval import Retriever
from genrec.input_pipeline.examples import Histories
from genrec.progress import progress
from genrec.ranking.lists import Lists


class ModelSource:
    """Source of the lists of a model; batches users of similar history length, of which few lengths are compiled."""

    def __init__(self, loaded: LoadedModel, retriever: Retriever | ExhaustiveRetriever, batch: int):
        """`retriever` searches with the model of `loaded`, for `batch` users at a time."""
        self._loaded, self._retriever, self._batch = loaded, retriever, retriever.round_up(batch)

    @staticmethod
    def generator(loaded: LoadedGenerator, beams: int, batch: int) -> "ModelSource":
        """Returns the source of a beam search over all items of the catalogue."""
        return ModelSource(loaded, Retriever.of_table(loaded.graphdef, loaded.table, beams, loaded.mesh), batch)

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the best items; see `lists.Source`. Raises ValueError if `top` exceeds that of the retriever."""
        if top > self._retriever.top:
            raise ValueError(f"top={top} must be at most {self._retriever.top}, the retriever's")
        items = np.full((len(histories), top), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)

        def search(rows: Histories, places: np.ndarray) -> RankedItems[jax.Array]:
            excluded = None if exclude is None else [exclude[place] for place in places]
            if isinstance(self._retriever, Retriever):
                return self._retriever(self._loaded.params, rows, self._retriever.excluding(excluded))
            return self._retriever(self._loaded.params, rows, excluded)

        for places, found in self._batches(user_ids, histories, search):
            items[places], scores[places] = found.items[: len(places), :top], found.scores[: len(places), :top]
        return Lists(items, scores)

    def _batches(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        function: Callable[[Histories, np.ndarray], Any],
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Yields the users int[n] of each batch, and function(encoder inputs, users) with n rows or more."""
        lengths = np.minimum([len(history) for history in histories], self._loaded.max_history)
        planned = length_buckets.plan_batches(lengths, self._batch, self._loaded.max_history)

        def run(batch: length_buckets.Batch) -> Any:
            # The last batch repeats a user until it is full; the copies are dropped.
            filled = np.append(batch.users, np.repeat(batch.users[:1], self._batch - len(batch.users)))
            names, chosen = [user_ids[place] for place in filled], [histories[place] for place in filled]
            return function(self._loaded.histories(names, chosen, batch.max_history), filled)

        for batch, found in length_buckets.prefetch(progress(planned, "search"), run):
            yield batch.users, jax.device_get(found)


class SasRec(ModelSource):
    """SASRec of a work directory: a source, and a `multi_stage.Ranker`."""

    def __init__(self, loaded: LoadedModel, top: int, batch: int):
        """`loaded` is from `loaded_model.load_sasrec`; `top` is the length of its lists."""
        self._exhaustive = ExhaustiveRetriever(loaded.graphdef, len(loaded.dataset.catalogue), top, loaded.mesh)
        super().__init__(loaded, self._exhaustive, batch)

    @staticmethod
    def load(workdir: epath.PathLike, top: int, batch: int, mesh: Mesh | None = None) -> "SasRec":
        """Loads the best checkpoint of `workdir`; for errors see `loaded_model.load_sasrec`."""
        return SasRec(loaded_model.load_sasrec(workdir, "best", mesh), top, batch)

    @property
    def title(self) -> str:
        """The name in tables: with a frequency filter, SASRec is BSARec."""
        return "BSARec" if self._loaded.record.model["frequency_filter"] > 0 else "SASRec"

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns log-likelihoods float32[users, n] of items int32[users, n], catalogue rows; NaN for row -1."""
        found = np.full(items.shape, np.nan, np.float32)
        known = np.maximum(items, 0)

        def score(rows: Histories, places: np.ndarray) -> jax.Array:
            return self._exhaustive.score(self._loaded.params, rows, known[places])

        for places, scores in self._batches(user_ids, histories, score):
            found[places] = scores[: len(places)]
        return np.where(items >= 0, found, np.nan)
