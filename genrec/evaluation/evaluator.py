"""Recommendations for the users of a split, and the ranks of their targets."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as AbstractSequence

import jax
import numpy as np
import pyarrow as pa
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
from genrec.evaluation.spilled_lists import SpilledLists
from genrec.input_pipeline.context import ALL, TIME_OF_DAY, RequestContext
from genrec.input_pipeline.examples import Histories, Tokenizer, histories
from genrec.progress import progress


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Lists for the users of a split, in its order, and the ranks of the targets in them."""

    metrics: dict[str, float]  # "recall@10", "ndcg@10", "mrr@10", ...
    user_ids: AbstractSequence[str] | pa.Array
    targets: np.ndarray  # int32[users], catalogue rows
    ranks: np.ndarray  # int32[users]; 1 is first, 0 is not in the list
    recommended: np.ndarray | SpilledLists  # int32[users, length], catalogue rows, best first; -1 is an empty place
    certified: np.ndarray | None = None  # int32[users], as `FoundLists.certified`, of lists that a search found


@dataclasses.dataclass(frozen=True)
class FoundLists:
    """Lists that a beam search found for some users of a split."""

    places: np.ndarray  # int64[users], where the users are among those that are evaluated
    user_ids: list[str]
    targets: np.ndarray  # int32[users], catalogue rows
    recommended: np.ndarray  # int32[users, beams], catalogue rows, best first; -1 is an empty place
    scores: np.ndarray  # float32[users, beams], log-probabilities; -inf for an empty place
    bounds: np.ndarray  # float32[users], upper bound of the scores of all items that the search left out
    repeats: np.ndarray  # bool[users, beams], True for an item of the user's whole history
    target_repeats: np.ndarray  # bool[users], the same for the target

    @functools.cached_property
    def ranks(self) -> np.ndarray:
        """int32[users], as `item_ranks`."""
        return item_ranks(self.recommended, self.targets)

    @functools.cached_property
    def certified(self) -> np.ndarray:
        """int32[users], how many of the first items are proven to be the most likely of the whole catalogue.

        Empty places count if the whole catalogue is in the list.
        """
        return (self.scores >= self.bounds[:, None]).sum(axis=1, dtype=np.int32)


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

    @property
    def users(self) -> int:
        """The number of users that are evaluated."""
        return len(self._chosen)

    @property
    def beams(self) -> int:
        """The length of the lists."""
        return self._retriever.beams

    def measure(self, params: nnx.State, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Returns the metrics of the lists that `params` find for all users.

        Returns None if `stop`, which is called after each batch, returns True.
        """
        ranks = np.zeros(self.users, np.int32)
        for found in self.search(params):
            ranks[found.places] = found.ranks
            if stop():
                return None
        return self.metrics(ranks)

    def metrics(self, ranks: np.ndarray) -> dict[str, float]:
        """Returns the metrics of ranks int[users], at the cutoffs that the lists can show."""
        return metrics.compute(ranks, self._cutoffs)

    def search(self, params: nnx.State) -> Iterator[FoundLists]:
        """Recommends with `params`; yields the lists of a batch of users at a time, those of short histories first."""
        for places, sequences, on_device in self._search(params):
            found = jax.device_get(on_device)
            targets = np.array([sequence.items[-1] for sequence in sequences], np.int32)
            recommended = found.items[: len(places)].astype(np.int32)
            histories = [sequence.items[:-1] for sequence in sequences]
            yield FoundLists(
                places=places,
                user_ids=[sequence.user_id for sequence in sequences],
                targets=targets,
                recommended=recommended,
                scores=found.scores[: len(places)].astype(np.float32),
                bounds=found.bound[: len(places)].astype(np.float32),
                repeats=_in_histories(recommended, histories),
                target_repeats=_in_histories(targets[:, None], histories)[:, 0],
            )

    def _search(self, params: nnx.State) -> Iterator[tuple[np.ndarray, list[Sequence], RankedItems]]:
        """Yields for each batch the places of its users, their sequences, and their lists on the device."""

        def run(batch: length_buckets.Batch) -> tuple[list[Sequence], RankedItems]:
            sequences = self._sequences.read(self._chosen[batch.users])
            # The last batch repeats a user until it is full; `search` drops the lists of the copies.
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


def _in_histories(items: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
    """Returns bool[users, n], True for those of items int[users, n] that are in the user's history."""
    owners = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    most = 1 + max(int(items.max(initial=0)), max((int(history.max(initial=0)) for history in histories), default=0))
    chosen = owners * most + np.concatenate([np.zeros(0, np.int64), *histories]).astype(np.int64)
    return (items >= 0) & np.isin(np.arange(len(items))[:, None] * most + items, chosen)


def _choose(available: int, users: int) -> np.ndarray:
    """Returns int64[chosen], all sequences, or a fixed choice of `users` of them."""
    if not 0 < users < available:
        return np.arange(available)
    return np.sort(np.random.default_rng(0).choice(available, users, replace=False))
