"""Recommends for every user of a split and finds the rank of the item that target."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pyarrow as pa
from absl import logging
from flax import nnx

from genrec import config
from genrec.data.dataset import Dataset, Sequence
from genrec.data.errors import DataError
from genrec.decoding import length_buckets
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.new_item_quota import QuotaRetriever
from genrec.decoding.retrieval import Retriever
from genrec.evaluation import metrics
from genrec.input_pipeline.context import ALL, TIME_OF_DAY, RequestContext
from genrec.input_pipeline.examples import Histories, Tokenizer, histories
from genrec.input_pipeline.flat_sequences import SECONDS_AN_HOUR
from genrec.progress import progress


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one run over a split found. Users are in the order of the split."""

    metrics: dict[str, float]  # "recall@10", "ndcg@10", "mrr@10", ...
    user_ids: list[str]
    targets: np.ndarray  # int32[users], the catalogue row that target
    ranks: np.ndarray  # int32[users]; 1 is first, 0 is not among the beams
    recommended: np.ndarray  # int32[users, beams], catalogue rows, best first; -1 marks short-fall
    scores: np.ndarray  # float32[users, beams], log-probabilities; -inf marks short-fall
    bounds: np.ndarray  # float32[users]; no item that the search left out is likelier than this
    repeats: np.ndarray  # bool[users, beams], whether a recommended item stands in the user's whole history
    target_repeats: np.ndarray  # bool[users], whether the target does

    @property
    def certified(self) -> np.ndarray:
        """int[users]: how many of the first places surely hold the likeliest items of the whole catalogue.

        A list that ends early because the catalogue does is certified up to its last place.
        """
        return (self.scores >= self.bounds[:, None]).sum(axis=1)


class Evaluator:
    """Built once, run with many parameters; compiles at most once per bucket. Knows no training."""

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
        """Args beyond the obvious:

        `retriever`: finds the lists, of `cfg.beams` items.
        `tokens`, `max_history`, `causal`: how histories are presented; as in training.
        `users`: evaluate this many users, a fixed choice spread over the split; 0 takes all.

        Raises DataError when the split has no users or the model knows no such context, and ConfigError for a search
        that cannot be widened as told.
        """
        if cfg.certify < 1:
            raise config.ConfigError(f"evaluation.certify={cfg.certify}: say how many first items, at least 1")
        if 0 < cfg.max_beams < cfg.beams:
            raise config.ConfigError(
                f"evaluation.max_beams={cfg.max_beams} is less than evaluation.beams={cfg.beams}: give more beams, "
                "or 0 to keep to these"
            )
        self._retriever = retriever
        self._sequences = dataset.split(split)
        self._split, self._tokenizer, self._causal = split, tokenizer, causal
        self._withheld, self._shown = frozenset(cfg.withheld_features), None if cfg.history < 0 else cfg.history
        tokenizer.context.check(sorted(self._withheld - {ALL}))
        request_time_features = tokenizer.context.features if cfg.request_time else ()
        self._tells_time = any(feature.of == "time" for feature in request_time_features)
        self._item_values = {
            feature.name: dataset.catalogue.column(feature.name).cast(pa.string()).to_pylist()
            for feature in request_time_features
            if feature.of == "item"
        }
        self._max_beams, self._certify = cfg.max_beams, min(cfg.certify, cfg.beams)
        if not len(self._sequences):
            raise DataError(f"{dataset.path}: the {split} split has no users. Loosen the filters of stage `prepare`.")
        self._cutoffs = tuple(cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams)
        if len(self._cutoffs) < len(cfg.cutoffs):
            logging.warning("metrics beyond %d beams are left out: lists are no longer than that", cfg.beams)
        self._records = _choose(len(self._sequences), users)  # split order
        self._batch = self._retriever.round_up(min(cfg.batch, len(self._records)))
        lengths = self._sequences.lengths[self._records] - 1
        if self._shown is not None:
            lengths = np.minimum(lengths, self._shown)
        self._batches = length_buckets.plan_batches(np.minimum(lengths, max_history), self._batch, max_history)

    def run(self, params: nnx.State, stop: Callable[[], bool] = lambda: False) -> Evaluation | None:
        """Recommends with `params`: beams for every chosen user, and the metrics of the targets' ranks.

        `stop` is asked after each batch; None where it answers yes before the end.
        """
        users = len(self._records)
        user_ids = np.full(users, "", object)
        targets = np.zeros(users, np.int32)
        recommended = np.full((users, self._retriever.beams), -1, np.int32)
        scores, bounds = np.full(recommended.shape, -np.inf, np.float32), np.zeros(users, np.float32)
        repeats, target_repeats = np.zeros(recommended.shape, bool), np.zeros(users, bool)
        for places, records, beams in self._search(params):
            user_ids[places] = [record.user_id for record in records]
            targets[places] = [record.items[-1] for record in records]
            found = jax.device_get(beams)
            recommended[places] = found.items[: len(places)]
            scores[places] = found.scores[: len(places)]
            bounds[places] = found.bound[: len(places)]
            for place, record in zip(places, records, strict=True):
                repeats[place] = np.isin(recommended[place], record.items[:-1])
                target_repeats[place] = targets[place] in record.items[:-1]
            if stop():
                return None
        ranks = item_ranks(recommended, targets)
        values = metrics.compute(ranks, self._cutoffs)
        return Evaluation(
            values, user_ids.tolist(), targets, ranks, recommended, scores, bounds, repeats, target_repeats
        )

    def _search(self, params: nnx.State) -> Iterator[tuple[np.ndarray, list[Sequence], RankedItems]]:
        """Batches' places, records and beams."""

        def run(batch: length_buckets.Batch) -> tuple[list[Sequence], RankedItems]:
            records = self._sequences.read(self._records[batch.users])
            return records, self._recommend(params, self._histories(records, batch.max_history))

        for batch, found in length_buckets.prefetch(progress(self._batches, f"evaluate {self._split}"), run):
            yield batch.users, *found

    def _recommend(self, params: nnx.State, rows: Histories) -> RankedItems:
        if self._max_beams > self._retriever.beams and isinstance(self._retriever, Retriever):
            return self._retriever.widening_search(params, rows, self._max_beams, self._certify)
        return self._retriever(params, rows)

    def _histories(self, records: list[Sequence], max_history: int) -> Histories:
        # The last batch repeats a user until it is full; the copies' beams are cut off above.
        records = records + records[:1] * (self._batch - len(records))
        user_ids = [record.user_id for record in records]
        items = [record.items[:-1] for record in records]
        if self._shown is not None:
            items = [history[max(0, len(history) - self._shown) :] for history in items]
        contexts = [RequestContext(self._overrides(record), self._withheld) for record in records]
        return histories(user_ids, items, self._tokenizer, max_history, self._causal, contexts)

    def _overrides(self, record: Sequence) -> dict[str, str]:
        """What the evaluation tells of the target's moment."""
        overrides = {name: values[record.items[-1]] for name, values in self._item_values.items()}
        if self._tells_time:
            overrides[TIME_OF_DAY] = str(record.timestamps[-1] // SECONDS_AN_HOUR % 24)
        return {name: value for name, value in overrides.items() if value}


def item_ranks(recommended: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """int32[users]: place of each target in its list (1 is first); 0 where it is missing.

    `recommended` int[users, items] are catalogue rows, -1 where a list ends early. A hit is the item itself. For
    example the lists (7, 2, 5) and (7, 2, -1) with the targets 2 and 5 give the ranks 2 and 0.
    """
    hits = recommended == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def _choose(available: int, users: int) -> np.ndarray:
    """int64[chosen]: all records, or a choice that depends on the numbers alone."""
    if not 0 < users < available:
        return np.arange(available)
    return np.sort(np.random.default_rng(0).choice(available, users, replace=False))
