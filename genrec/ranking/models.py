"""A trained model as a source of lists."""

from collections.abc import Sequence

import jax
import numpy as np

from genrec.decoding import batches
from genrec.decoding.retrieval import Retriever
from genrec.decoding.trained import Trained
from genrec.progress import progress
from genrec.ranking.lists import Lists


class ModelSource:
    """The lists of a model that reads histories; compiles once for each of a few lengths of them."""

    def __init__(self, trained: Trained, retriever: Retriever, batch: int):
        """`retriever` searches with the model of `trained`, for `batch` users at a time."""
        self._trained, self._retriever, self._batch = trained, retriever, retriever.round_up(batch)

    def recommend(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], top: int) -> Lists:
        """See `lists.Source`. Raises ValueError for more items than the retriever's lists have."""
        if top > self._retriever.top:
            raise ValueError(f"{top} items wanted of lists of {self._retriever.top}")
        trained = self._trained
        lengths = np.minimum([len(history) for history in histories], trained.max_history)
        items = np.full((len(histories), top), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)
        waiting = None
        planned = batches.plan(lengths, self._batch, trained.max_history)
        for batch in [*progress(planned, "search"), None]:
            found = None
            if batch is not None:
                # The last batch repeats a user until it is full; the copies are cut off below.
                filled = np.append(batch.places, np.repeat(batch.places[:1], self._batch - len(batch.places)))
                rows = trained.histories(
                    [user_ids[place] for place in filled],
                    [histories[place] for place in filled],
                    batch.max_history,
                )
                found = batch.places, self._retriever(trained.params, rows)
            if waiting is not None:  # one behind, so that the device does not wait for the next histories
                places, beams = waiting
                beams = jax.device_get(beams)
                items[places], scores[places] = beams.items[: len(places), :top], beams.scores[: len(places), :top]
            waiting = found
        return Lists(items, scores)
