"""The mixture of transitions as a source of candidates (genrec.input_pipeline.transitions)."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from genrec import artifacts
from genrec.input_pipeline import transitions
from genrec.ranking.lists import Lists, best


class Transitions:
    """Recommends the items that are the most probable by the mixture; scores are their log-probabilities."""

    def __init__(self, mixture: transitions.Transitions):
        self._mixture = mixture

    @staticmethod
    def load(workdir: epath.PathLike, dataset: str) -> "Transitions":
        """Loads the mixture of a work directory, learned from the dataset of this fingerprint.

        Raises ArtifactError if there is none.
        """
        folder = epath.Path(workdir) / transitions.FOLDER
        artifacts.require_input(folder, transitions.KIND, "dataset", dataset)
        return Transitions(transitions.Transitions.load(folder))

    def recommend(
        self,
        user_ids: Sequence[str],
        histories: Sequence[np.ndarray],
        top: int,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> Lists:
        """Returns the most probable items; see `lists.Source`."""
        items = np.full((len(histories), top), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)
        every = np.arange(self._mixture.items)
        at_once = self._mixture.at_once
        for start in range(0, len(histories), at_once):
            some = [np.asarray(one, np.int64) for one in histories[start : start + at_once]]
            for row, values in enumerate(np.log(self._mixture.dense(some)), start):
                eligible = every if exclude is None else np.delete(every, exclude[row])
                found, of_found = best(values[eligible], eligible, top)
                items[row, : len(found)], scores[row, : len(found)] = found, of_found
        return Lists(items, scores)
