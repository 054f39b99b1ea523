"""The ranker of a bundle: the sequential model (SASRec or BSARec) by its programs, and features of the catalogue."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.transitions import Transitions
from genrec.models.run_record import RunRecord
from genrec.ranking import features
from genrec.ranking.features import Features
from genrec.ranking.lists import ScoredItems
from genrec.ranking.ranker import FeatureRanker
from genrec.serving import bundle
from genrec.serving.bundle import Bundle, Programs

SCORES, VECTORS = "scores", "vectors"  # kinds of programs of the sequential model


def sequential_name(kind: str, batch: int) -> str:
    """Returns the name of a program of the sequential model."""
    return f"sequential_{kind}_batch{batch}"


class ServedSequential:
    """The sequential model of a bundle; a `ranking.ranker.SequentialScorer`."""

    def __init__(self, of: Bundle, programs: Programs):
        self._programs, self._sizes = programs, of.card.batch_sizes
        self._record, weights = RunRecord(**of.json(bundle.SEQUENTIAL)), of.arrays(bundle.SEQUENTIAL_WEIGHTS)
        self._params = [jnp.asarray(weights[name]) for name in of.card.sequential_weights]
        self._tokenizer = item_histories.tokenizer(self._record.sizes[0])

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns log-likelihoods float32[users, n] of items int32[users, n]; NaN for row -1 and unknown items."""
        known = (items >= 0) & (items < self._record.sizes[0])
        scores = self._run(SCORES, histories, self._sizes)
        return np.where(known, np.take_along_axis(scores, np.where(known, items, 0), axis=1), np.nan)

    def scored(self, histories: Sequence[np.ndarray]) -> Iterator[ScoredItems]:
        """Yields all items that the model knows after each history; see `lists.Scorer`."""
        every = np.arange(self._record.sizes[0])
        return ((every, scores) for scores in self._run(SCORES, histories, self._sizes))

    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32[histories, width], the output after each history."""
        return self._run(VECTORS, histories, item_histories.BATCH_SIZES)

    def _run(self, kind: str, histories: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
        """Returns the results of a program for histories, float32[histories, n], in batches of few sizes."""
        found, longest, causal = [], self._record.max_history, self._record.causal
        for start in range(0, len(histories), sizes[-1]):
            part = histories[start : start + sizes[-1]]
            size = next(one for one in sizes if one >= len(part))
            rows = item_histories.batch(part, self._tokenizer, longest, causal, size)
            (of_part,) = self._programs(sequential_name(kind, size), self._params, rows)
            found.append(np.asarray(of_part)[: len(part)])
        return np.concatenate(found)


class ServedRanker:
    """The ranker of a bundle, over a catalogue that changes; its scores are those of `tools/score_items.py`."""

    def __init__(
        self,
        of: Bundle,
        sequential: ServedSequential,
        catalogue: Catalogue,
        users: pa.Table | None,
        item_vectors: np.ndarray | None,
        transitions: Transitions | None,
    ):
        """`users`, `item_vectors` float32[items, width] and `transitions` are those of the bundle."""
        settings, arrays = of.json(bundle.RANKER), of.arrays(bundle.RANKER_ARRAYS)
        pairs = itertools.product(settings["user_columns"], settings["item_columns"])
        weights: dict[str, Any] | None = settings["weights"]
        self._sequential, self._weights, self._catalogue = sequential, weights, catalogue
        self._later: list[np.ndarray] = []  # vectors of the items that were added since the features were computed
        self._is_current, self._lock = False, threading.Lock()
        self._features = Features(
            arrays["popularity"],
            features.unit(item_vectors) if settings["reads_content"] and item_vectors is not None else None,
            {name: features.labels_of(catalogue, name) for name in settings["item_columns"]},
            {},  # computed with the first score
            {name: features.contexts_of(users, name) for name in settings["user_columns"]},
            {pair: arrays[f"lift.{place}"] for place, pair in enumerate(pairs)},
            transitions if weights and features.TRANSITIONS in weights else None,
        )

    def use(self, catalogue: Catalogue, new_vectors: np.ndarray) -> None:
        """Takes another catalogue, whose last items are new, with their vectors float32[new, width] of length 1."""
        self._catalogue, self._is_current = catalogue, False
        if len(new_vectors):
            self._later.append(new_vectors)

    @property
    def ranker(self) -> FeatureRanker:
        """The ranker over the present catalogue."""
        with self._lock:
            if not self._is_current:
                content = self._features.content
                if content is not None:
                    content = np.concatenate([content, *self._later])
                self._features = self._features.over(self._catalogue, content)
                self._later, self._is_current = [], True
        return FeatureRanker(self._sequential, self._features, self._weights)

    def score(self, user_ids: Sequence[str], histories: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
        """Returns scores float32[users, n] of items int32[users, n], comparable within a user; NaN for row -1."""
        return self.ranker.score(user_ids, histories, items)
