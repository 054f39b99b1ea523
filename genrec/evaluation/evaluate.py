"""Stage `evaluate`: writes `evaluation/` for a checkpoint and a split."""

import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from absl import logging
from etils import epath

from genrec import distributed, printing, settings_check, sharding
from genrec.config import Experiment
from genrec.data import splits
from genrec.data.dataset import Dataset, Sequences
from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.decoding.new_item_quota import QuotaRetriever
from genrec.decoding.retrieval import Retriever
from genrec.evaluation import (
    baselines,
    beyond_accuracy,
    identity,
    list_checks,
    metrics,
    provenance,
    report,
    results,
    segments,
    significance,
)
from genrec.evaluation.baselines import Baseline
from genrec.evaluation.beyond_accuracy import BeyondAccuracy
from genrec.evaluation.evaluator import Evaluation, Evaluator
from genrec.evaluation.list_checks import FIRST
from genrec.evaluation.spilled_lists import SpilledLists
from genrec.files import map_array
from genrec.models import user_context
from genrec.ranking import assembly
from genrec.ranking.popular import popularity

SPLITS = ("validation", "test")
USERS_AT_A_TIME = 1 << 14


def evaluate(
    experiment: Experiment,
    workdir: epath.PathLike,
    split: str = "test",
    checkpoint: str = "best",
    checkpoints_of: epath.PathLike | None = None,
    results_in: epath.PathLike | None = None,
) -> None:
    """Evaluates a checkpoint on all users of a split, writes the results into `identity.folder` and prints the tables.

    `checkpoint` and `checkpoints_of` are those of `loaded_model.load`; `results_in` has the folder of the results, by
    default `workdir`. All processes of a run call this, and the first one writes. Raises ConfigError for invalid
    settings, ArtifactError for inputs that are missing or do not belong together, DataError for a split that does not
    exist, has no users, or has users twice, EvaluationError if an item is not valid.
    """
    settings_check.check(experiment)
    check_split(split)
    workdir = epath.Path(workdir)
    loaded = loaded_model.load(workdir, checkpoint, sharding.make_mesh(experiment.mesh), checkpoints_of)
    folder = identity.folder(results_in or workdir, experiment.evaluation)
    CheckpointEvaluator(experiment, workdir, split, loaded).run(loaded, folder)


class CheckpointEvaluator:
    """Evaluates checkpoints of one run on one split; does once what does not depend on the checkpoint."""

    def __init__(self, experiment: Experiment, workdir: epath.PathLike, split: str, loaded: LoadedGenerator):
        """Prepares the split; `loaded` is any checkpoint of the run. For errors see `evaluate`."""
        self._experiment, self._workdir, self._split = experiment, epath.Path(workdir), split
        self._dataset, self._max_history, self._mesh = loaded.dataset, loaded.max_history, loaded.mesh
        cfg = self._cfg = experiment.evaluation
        segments.check(loaded.dataset, cfg.segments)
        check_users(loaded.dataset)
        self._evaluator = Evaluator(
            _retriever(experiment, loaded),
            loaded.dataset,
            split,
            cfg,
            loaded.tokenizer,
            loaded.max_history,
            loaded.record.causal,
        )

    def run(self, loaded: LoadedGenerator, folder: epath.PathLike) -> None:
        """Evaluates a checkpoint, writes its results into `folder` and prints the tables."""
        cfg, split = self._cfg, self._split
        logging.info("evaluating step %d on the %s split, %d beams", loaded.step, split, cfg.beams)
        identified = identity.of(loaded, self._experiment, self._workdir)  # a collective, as the lists below
        start = time.monotonic()
        evaluation, certified, code_ranks, checks = search(self._evaluator, loaded)
        seconds = time.monotonic() - start
        others = self._baselines  # a collective: models may be sharded over the devices of all processes
        if not distributed.is_first():
            return
        ranks = {name: of.ranks for name, of in others.items()}
        figures = {
            "identity": identified,
            "run": provenance.describe(loaded, self._experiment, self._workdir),
            "certified": list_checks.certified_shares(certified, cfg),
            "seconds": round(seconds, 1),
            **checks.figures(),
            "semantic_id_metrics": self._evaluator.metrics(code_ranks),
            **self._compare(evaluation, ranks, loaded),
        }
        figures["verdict"] = significance.sentence(
            evaluation.metrics,
            figures["comparisons"],
            metrics.shown_cutoff(metrics.cutoffs_of(evaluation.metrics)),
            results.history_rule(cfg.exclude_history),
        )
        text = _text(figures, evaluation)
        item_ids = self._dataset.catalogue.item_ids
        rule, variant = cfg.exclude_history, identity.variant(cfg)
        printing.show(
            results.write(
                folder, split, evaluation, ranks, item_ids, figures, text, variant=variant, exclude_history=rule
            )
        )
        shown = report.write(self._workdir, split, folder)
        printing.show(f"{len(evaluation.ranks) / seconds:.0f} users/s with compilation; the report is {shown}")

    def _compare(self, evaluation: Evaluation, ranks: dict[str, np.ndarray], loaded: LoadedGenerator) -> dict[str, Any]:
        """Returns intervals, comparisons, metrics by segment, and beyond accuracy."""
        cutoffs = metrics.cutoffs_of(evaluation.metrics)
        all_ranks = {"model": evaluation.ranks, **ranks}
        beyond = self._beyond_accuracy()
        for start in range(0, len(evaluation.ranks), USERS_AT_A_TIME):
            beyond.add(evaluation.recommended[start : start + USERS_AT_A_TIME])
        found = segments.find(
            self._dataset,
            evaluation.user_ids,
            evaluation.targets,
            self._dataset.split(self._split).lengths - 1,
            self._popularity,
            self._cfg.segments,
            loaded.new_items,
        )
        return {
            "intervals": {name: significance.bootstrap(of, cutoffs) for name, of in all_ranks.items()},
            "comparisons": significance.compare_with(ranks, evaluation.ranks, [metrics.shown_cutoff(cutoffs)]),
            "beyond_accuracy": {
                "model": beyond.figures(),
                **{name: of.beyond_accuracy for name, of in self._baselines.items()},
            },
            "segments": segments.measure(found, all_ranks, cutoffs),
        }

    def _beyond_accuracy(self) -> BeyondAccuracy:
        return BeyondAccuracy(self._popularity, self._content, min(FIRST, self._cfg.beams))

    @functools.cached_property
    def _popularity(self) -> np.ndarray:
        return popularity(self._dataset)

    @functools.cached_property
    def _baselines(self) -> dict[str, Baseline]:
        """Returns the results of the baselines, which read as much of the histories as the model does."""
        cfg = self._cfg
        limit = self._max_history if cfg.history < 0 else min(cfg.history, self._max_history)
        sources = assembly.load_baselines(self._experiment, self._workdir, self._dataset, self._popularity, self._mesh)
        return {
            name: baselines.evaluate(
                baselines.recommend(source, self._dataset, self._split, cfg.beams, limit, cfg.exclude_history, name),
                self._beyond_accuracy(),
            )
            for name, source in sources.items()
        }

    @functools.cached_property
    def _content(self) -> np.ndarray | None:
        """Returns float32[items, width], the embeddings behind the semantic IDs; None if they are not there."""
        path = user_context.embeddings_file(self._workdir)
        return map_array(path) if path.exists() else None


class Searched(NamedTuple):
    """The lists of all users, and what is known of them."""

    evaluation: Evaluation
    certified: np.ndarray  # int32[users], as `FoundLists.certified`
    code_ranks: np.ndarray  # int32[users], as `list_checks.semantic_id_ranks`
    checks: list_checks.ListChecks


def search(evaluator: Evaluator, loaded: LoadedGenerator) -> Searched:
    """Searches for all users of an evaluator; holds the lists of a batch, and the id and some numbers of each user."""
    checks, groups = list_checks.ListChecks(loaded.semantic_ids.items), list_checks.code_groups(loaded.semantic_ids)
    targets, ranks, certified, code_ranks = np.zeros((4, evaluator.users), np.int32)
    lists, places, user_ids = SpilledLists(evaluator.users, evaluator.beams), [], []
    for found in evaluator.search(loaded.params):
        at = found.places
        targets[at], ranks[at], certified[at] = found.targets, found.ranks, found.certified
        code_ranks[at] = list_checks.semantic_id_ranks(found, groups)
        lists.write(at, found.recommended)
        checks.add(found)
        places.append(at)
        user_ids.append(pa.array(found.user_ids, pa.large_string()))
    in_order = pa.concat_arrays(user_ids).take(pa.array(np.argsort(np.concatenate(places))))
    evaluation = Evaluation(evaluator.metrics(ranks), in_order, targets, ranks, lists, certified)
    return Searched(evaluation, certified, code_ranks, checks)


def _retriever(experiment: Experiment, loaded: LoadedGenerator) -> Retriever | QuotaRetriever:
    cfg = experiment.evaluation
    if cfg.new_items_share and loaded.new_items is not None:
        share, new = cfg.new_items_share, loaded.new_items
        return QuotaRetriever(loaded.graphdef, loaded.table, cfg.beams, new, share, loaded.mesh)
    return Retriever.of_table(loaded.graphdef, loaded.table, cfg.beams, loaded.mesh, cfg.sharded_table)


def check_split(split: str) -> None:
    """Raises DataError for a split that cannot be evaluated."""
    if split not in SPLITS:
        raise DataError(f"no split {split!r} to evaluate: choose {' or '.join(SPLITS)}.")


def check_users(dataset: Dataset) -> None:
    """Raises DataError if a user would count twice, or if the sequence of an earlier split has a later target.

    Preparation guarantees both; this checks the files as they are now.
    """

    splits.check_no_leak({name: _Blocks(dataset.split(name)) for name in splits.NAMES})


class _Blocks:
    """The blocks of a split, which are read whenever they are iterated."""

    def __init__(self, sequences: Sequences):
        self._sequences = sequences

    def __iter__(self) -> Iterator[splits.SequenceBlock]:
        return self._sequences.blocks()


def _text(figures: dict[str, Any], evaluation: Evaluation) -> str:
    """Returns the lines of the text file after the metrics."""
    exact = {name: value for name, value in evaluation.metrics.items() if name.startswith("recall")}
    shown = metrics.shown_cutoff(metrics.cutoffs_of(exact))
    models = list(figures["beyond_accuracy"])
    inflated = figures["semantic_id_metrics"]
    lines = [
        "",
        figures["verdict"],
        *significance.verdicts(figures["comparisons"]),
        "",
        "inflated metrics, if any item with the target's learned codes counted as a hit: "
        + ", ".join(f"{name} {inflated[name]:.4f} for {value:.4f}" for name, value in exact.items()),
        "",
        beyond_accuracy.table(figures["beyond_accuracy"]),
        segments.table(figures["segments"], models, f"recall@{shown}"),
        "",
        f"returned items: {figures['returned_items']:,}, each in the catalogue, once in its list, with a finite score; "
        f"lists cut short: {figures['short_lists']:.1%}",
        f"items of the user's own history: {figures['repeats']:.1%} of the first {FIRST} recommended, "
        f"{figures['target_repeats']:.1%} of the targets",
        "lists that are certified to be the most likely of all items: "
        + ", ".join(f"{share:.1%} of the first {cutoff}" for cutoff, share in figures["certified"].items()),
    ]
    return "\n".join(lines)
