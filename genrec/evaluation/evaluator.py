"""Recommendations for the users of a split, and the ranks of their targets."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import overload

import jax
import numpy as np
from absl import logging
from flax import nnx

from genrec import config, settings_check
from genrec.data.dataset import Dataset, Sequence
from genrec.data.errors import DataError
from genrec.data.timestamps import HOUR
from genrec.decoding import length_buckets
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.new_item_quota import QuotaRetriever
from genrec.decoding.retrieval import Retriever
from genrec.evaluation import metrics
from genrec.input_pipeline.context import ALL, TIME_OF_DAY, RequestContext
from genrec.input_pipeline.examples import Histories, Tokenizer, histories
from genrec.progress import progress


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Lists for the users of a split, in its order, and the ranks of the targets in them."""

    metrics: dict[str, float]  # "recall@10", "ndcg@10", "mrr@10", ...
    user_ids: list[str]
    targets: np.ndarray  # int32[users], catalogue rows
    ranks: np.ndarray  # int32[users]; 1 is first, 0 is not in the list
    recommended: np.ndarray  # int32[users, length], catalogue rows, best first; -1 is an empty place


@dataclasses.dataclass(frozen=True)
class SearchEvaluation(Evaluation):
    """An evaluation of lists that a beam search found; `recommended` is int32[users, beams]."""

    scores: np.ndarray  # float32[users, beams], log-probabilities; -inf for an empty place
    bounds: np.ndarray  # float32[users], upper bound of the scores of all items that the search left out
    repeats: np.ndarray  # bool[users, beams], True for an item of the user's whole history
    target_repeats: np.ndarray  # bool[users], the same for the target

    @property
    def certified(self) -> np.ndarray:
        """Returns int[users], how many of the first items are proven to be the most likely of the whole catalogue.

        Empty places count if the whole catalogue is in the list.
        """
        return (self.scores >= self.bounds[:, None]).sum(axis=1)


class Evaluator:
    """Evaluates parameters on a split; independent of the training loop. Compiles at most once per length bucket."""

    def __init__(
        self,
        retriever: Retriever | ExhaustiveRetriever | QuotaRetriever,
        dataset: Dataset,
        split: str,
        cfg: config.Evaluation,
        tokenizer: Tokenizer,
        max_history: int,
        causal: bool,
        users: int = 0,
    ):
        """Plans batches of `users` users, a fixed choice spread over the split; 0 takes all.

        `retriever` finds lists of `cfg.beams` items; `tokenizer`, `max_history` and `causal` are those of the training.

        Raises DataError if the split has no users or the model has no such context features, and ConfigError for
        settings of the search that contradict each other.
        """
        settings_check.check(cfg, "evaluation")
        self._retriever = retriever
        self._sequences = dataset.split(split)
        self._split, self._tokenizer, self._causal = split, tokenizer, causal
        self._withheld, self._shown = frozenset(cfg.withheld_features), None if cfg.history < 0 else cfg.history
        tokenizer.context.check(sorted(self._withheld - {ALL}))
        request_time_features = tokenizer.context.features if cfg.request_time else ()
        self._tells_time = any(feature.of == "time" for feature in request_time_features)
        self._item_values = {
            feature.name: dataset.catalogue.labels(feature.name)
            for feature in request_time_features
            if feature.of == "item"
        }
        self._max_beams, self._certify = cfg.max_beams, min(cfg.certify, cfg.beams)
        self._exclude_history = cfg.exclude_history
        if not len(self._sequences):
            raise DataError(f"{dataset.path}: the {split} split has no users. Loosen the filters of stage `prepare`.")
        self._cutoffs = tuple(cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams)
        if len(self._cutoffs) < len(cfg.cutoffs):
            logging.warning("metrics beyond %d beams are left out: lists are no longer than that", cfg.beams)
        self._chosen = _choose(len(self._sequences), users)  # split order
        self._batch = self._retriever.round_up(min(cfg.batch, len(self._chosen)))
        lengths = self._sequences.lengths[self._chosen] - 1
        if self._shown is not None:
            lengths = np.minimum(lengths, self._shown)
        self._batches = length_buckets.plan_batches(np.minimum(lengths, max_history), self._batch, max_history)

    @overload
    def run(self, params: nnx.State) -> SearchEvaluation: ...

    @overload
    def run(self, params: nnx.State, stop: Callable[[], bool]) -> SearchEvaluation | None: ...

    def run(self, params: nnx.State, stop: Callable[[], bool] = lambda: False) -> SearchEvaluation | None:
        """Recommends with `params` for every chosen user, and ranks the targets.

        Returns None if `stop`, which is called after each batch, returns True.
        """
        users = len(self._chosen)
        user_ids = np.full(users, "", object)
        targets = np.zeros(users, np.int32)
        recommended = np.full((users, self._retriever.beams), -1, np.int32)
        scores, bounds = np.full(recommended.shape, -np.inf, np.float32), np.zeros(users, np.float32)
        repeats, target_repeats = np.zeros(recommended.shape, bool), np.zeros(users, bool)
        for places, sequences, on_device in self._search(params):
            user_ids[places] = [sequence.user_id for sequence in sequences]
            targets[places] = [sequence.items[-1] for sequence in sequences]
            found = jax.device_get(on_device)
            recommended[places] = found.items[: len(places)]
            scores[places] = found.scores[: len(places)]
            bounds[places] = found.bound[: len(places)]
            for place, sequence in zip(places, sequences, strict=True):
                repeats[place] = np.isin(recommended[place], sequence.items[:-1])
                target_repeats[place] = targets[place] in sequence.items[:-1]
            if stop():
                return None
        ranks = item_ranks(recommended, targets)
        return SearchEvaluation(
            metrics=metrics.compute(ranks, self._cutoffs),
            user_ids=user_ids.tolist(),
            targets=targets,
            ranks=ranks,
            recommended=recommended,
            scores=scores,
            bounds=bounds,
            repeats=repeats,
            target_repeats=target_repeats,
        )

    def _search(self, params: nnx.State) -> Iterator[tuple[np.ndarray, list[Sequence], RankedItems]]:
        """Yields for each batch the places of its users, their sequences, and their lists on the device."""

        def run(batch: length_buckets.Batch) -> tuple[list[Sequence], RankedItems]:
            sequences = self._sequences.read(self._chosen[batch.users])
            # The last batch repeats a user until it is full; `self.run` drops the lists of the copies.
            filled = sequences + sequences[:1] * (self._batch - len(sequences))
            exclude = [sequence.items[:-1] for sequence in filled] if self._exclude_history else None
            return sequences, self._recommend(params, self._histories(filled, batch.max_history), exclude)

        for batch, (sequences, found) in length_buckets.prefetch(
            progress(self._batches, f"evaluate {self._split}"), run
        ):
            yield batch.users, sequences, found

    def _recommend(self, params: nnx.State, rows: Histories, exclude: list[np.ndarray] | None) -> RankedItems:
        retriever = self._retriever
        if not isinstance(retriever, Retriever):
            return retriever(params, rows, exclude)
        constraints = retriever.excluding(exclude)
        if self._max_beams > retriever.beams:
            return retriever.widening_search(params, rows, self._max_beams, self._certify, constraints)
        return retriever(params, rows, constraints)

    def _histories(self, sequences: list[Sequence], max_history: int) -> Histories:
        user_ids = [sequence.user_id for sequence in sequences]
        items = [sequence.items[:-1] for sequence in sequences]
        if self._shown is not None:
            items = [history[max(0, len(history) - self._shown) :] for history in items]
        contexts = [RequestContext(self._overrides(sequence), self._withheld) for sequence in sequences]
        return histories(user_ids, items, self._tokenizer, max_history, self._causal, contexts)

    def _overrides(self, sequence: Sequence) -> dict[str, str]:
        """Returns the request-time context of the target."""
        overrides = {name: values[sequence.items[-1]] for name, values in self._item_values.items()}
        if self._tells_time:
            overrides[TIME_OF_DAY] = str(sequence.timestamps[-1] // HOUR % 24)
        return {name: value for name, value in overrides.items() if value}


def item_ranks(recommended: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns int32[users], the rank of each target in its list: 1 is first, 0 is not in the list.

    `recommended` int[users, items] are catalogue rows, -1 for an empty place. A hit is the item itself. For example the
    lists (7, 2, 5) and (7, 2, -1) with the targets 2 and 5 give the ranks 2 and 0.
    """
    hits = recommended == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def _choose(available: int, users: int) -> np.ndarray:
    """Returns int64[chosen], all sequences, or a fixed choice of `users` of them."""
    if not 0 < users < available:
        return np.arange(available)
    return np.sort(np.random.default_rng(0).choice(available, users, replace=False))
