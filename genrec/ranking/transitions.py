"""The mixture of transitions as a source of candidates (genrec.input_pipeline.transitions)."""

from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from genrec import artifacts
from genrec.input_pipeline import transitions
from genrec.ranking.lists import Lists, ScoredItems, outside, ranked


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
        return ranked(self.scored(histories), len(histories), top, outside(exclude, self._mixture.items))

    def scored(self, histories: Sequence[np.ndarray]) -> Iterator[ScoredItems]:
        """Yields all items of the mixture after each history; see `lists.Scorer`. It reads no later ones."""
        items, at_once = self._mixture.items, self._mixture.at_once
        every = np.arange(items)
        for start in range(0, len(histories), at_once):
            some = [np.asarray(one, np.int64) for one in histories[start : start + at_once]]
            for scores in np.log(self._mixture.dense([one[one < items] for one in some])):
                yield every, scores
