"""Stage `evaluate`: a checkpoint and a split -> `evaluation/`."""

import time

import numpy as np
from absl import logging
from etils import epath

from genrec import config, distributed, sharding
from genrec.config import Experiment
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.splits import NAMES, check_no_leak
from genrec.decoding import trained as trained_models
from genrec.evaluation import baselines, beyond_accuracy, metrics, results, segments
from genrec.evaluation.evaluator import Evaluation, Evaluator, item_ranks
from genrec.ranking.lists import records
from genrec.ranking.popular import popularity
from genrec.semantic_ids.codes import SemanticIds, load_array

SPLITS = ("validation", "test")
FIRST = 10  # recommendations of which repeats are counted


class EvaluationError(ValueError):
    """An evaluation found something that must not be. The message says what."""


def evaluate(experiment: Experiment, workdir: epath.PathLike, split: str = "test", checkpoint: str = "best") -> None:
    """Recommends for every user of the split, writes `workdir/evaluation` and prints the table.

    `checkpoint` is "best", "latest" or a step. Among several processes all of them call this, and the first writes.
    Raises ArtifactError for inputs that are missing or do not belong together, DataError for a split that does not
    exist, has no users, or has users twice, EvaluationError when an item is not valid.
    """
    if split not in SPLITS:
        raise DataError(f"no split {split!r} to evaluate: choose {' or '.join(SPLITS)}.")
    workdir, cfg = epath.Path(workdir), experiment.evaluation
    trained = trained_models.load(workdir, checkpoint, sharding.make_mesh(experiment.mesh))
    catalogue = trained.dataset.catalogue
    segments.check(trained.dataset, cfg.segments)
    check_users(trained.dataset)
    logging.info("evaluating step %d on the %s split, %d beams", trained.step, split, cfg.beams)
    evaluator = Evaluator(
        trained.graphdef,
        trained.table,
        trained.dataset,
        split,
        cfg,
        trained.tokens,
        trained.max_history,
        trained.causal,
        trained.mesh,
    )
    start = time.monotonic()
    evaluation = evaluator.run(trained.params)
    seconds = time.monotonic() - start
    if not distributed.is_first():
        return
    dataset, sequences = trained.dataset, trained.dataset.split(split)
    shares = check_lists(evaluation, len(catalogue))
    repeats, certified = repeat_shares(evaluation), certified_shares(evaluation, cfg)
    popular = popularity(dataset)
    lists = {
        name: baselines.recommend(source, dataset, split, cfg.beams, trained.max_history, name)
        for name, source in baselines.learn(experiment, dataset, popular).items()
    }
    ranks = baselines.ranks(lists, evaluation.targets)
    cutoffs = metrics.cutoffs_of(evaluation.metrics)
    inflated = metrics.compute(semantic_id_ranks(evaluation, trained.semantic_ids), cutoffs)
    vectors = content_vectors(workdir)
    beyond = {
        name: beyond_accuracy.measure(items, popular, vectors, min(FIRST, cfg.beams))
        for name, items in {
            "model": evaluation.recommended,
            **{name: found.items for name, found in lists.items()},
        }.items()
    }
    segmentations = segments.find(
        dataset, evaluation.user_ids, evaluation.targets, sequences.lengths - 1, popular, cfg.segments
    )
    by_segment = segments.measure(segmentations, {"model": evaluation.ranks, **ranks}, cutoffs)
    details = {
        "step": trained.step,
        "dataset": dataset.fingerprint,
        "semantic_ids": trained.semantic_ids.fingerprint,
        "beams": cfg.beams,
        "max_beams": max(cfg.beams, cfg.max_beams),
        "certified": certified,
        "seconds": round(seconds, 1),
        **shares,
        **repeats,
        "semantic_id_metrics": inflated,
        "beyond_accuracy": beyond,
        "segments": by_segment,
    }
    exact = {name: value for name, value in evaluation.metrics.items() if name.startswith("recall")}
    text = "\n".join(
        [
            "",
            "were a hit of the learnt codes a hit: "
            + ", ".join(f"{n} {inflated[n]:.4f} for {exact[n]:.4f}" for n in exact),
            "",
            beyond_accuracy.table(beyond),
            segments.table(by_segment, ["model", *ranks], f"recall@{max(c for c in cutoffs if c <= FIRST)}"),
        ]
    )
    print(results.write(workdir / results.FOLDER, split, evaluation, ranks, catalogue.item_ids, details, text))
    print(f"\nitems returned: {shares['valid']:.0%} valid; lists cut short: {shares['short_lists']:.1%}")
    print(
        f"items of the user's own history: {repeats['repeats']:.1%} of the first {FIRST} recommended, "
        f"{repeats['target_repeats']:.1%} of the items that came next"
    )
    print(
        "lists that are certified to be the most likely of all items: "
        + ", ".join(f"{share:.1%} of the first {cutoff}" for cutoff, share in certified.items())
    )
    print(f"{len(evaluation.ranks) / seconds:.0f} users/s with compilation; written to {workdir / results.FOLDER}")


def check_lists(evaluation: Evaluation, items: int) -> dict[str, float]:
    """Shares of valid items and of short lists; raises EvaluationError unless all are valid.

    Valid is an item of the catalogue that stands in its list only once and has a finite score.
    """
    real = evaluation.recommended != -1
    in_order = np.sort(np.where(real, evaluation.recommended, -1 - np.arange(real.shape[1])), axis=1)
    repeated = in_order[:, 1:] == in_order[:, :-1]  # short-fall was given numbers that are all different
    outside = real & ((evaluation.recommended < 0) | (evaluation.recommended >= items))
    unlikely = real & ~np.isfinite(evaluation.scores)
    invalid = int(outside.sum() + repeated.sum() + unlikely.sum())
    if not real.any():
        raise EvaluationError("no item was returned: the checkpoint's scores are not numbers. Evaluate another one.")
    if invalid:
        raise EvaluationError(
            f"of {int(real.sum())} returned items, {int(outside.sum())} are not in the catalogue, "
            f"{int(repeated.sum())} stand twice in a list and {int(unlikely.sum())} have no finite score. Nothing was "
            "written: this is a fault of the index or the checkpoint. Evaluate another checkpoint, or report it."
        )
    return {"valid": 1.0, "short_lists": float((~real).any(axis=1).mean())}


def repeat_shares(evaluation: Evaluation) -> dict[str, float]:
    """How much of the first recommendations, and of the targets, users had chosen before: these should be alike."""
    first = evaluation.recommended[:, :FIRST] >= 0
    repeats = evaluation.repeats[:, :FIRST][first]
    return {"repeats": float(repeats.mean()), "target_repeats": float(evaluation.target_repeats.mean())}


def certified_shares(evaluation: Evaluation, cfg: config.Evaluation) -> dict[str, float]:
    """For each cutoff the share of users whose first items surely are the likeliest of the whole catalogue."""
    cutoffs = [cutoff for cutoff in cfg.cutoffs if cutoff <= cfg.beams]
    return {str(cutoff): float((evaluation.certified >= cutoff).mean()) for cutoff in cutoffs}


def check_users(dataset: Dataset) -> None:
    """Raises DataError when a user would count twice, or a record shows what a later one asks for.

    Preparation sees to both; this looks at what is on disk now.
    """
    check_no_leak(*(((r.user_id, r.items) for some in records(dataset.split(n)) for r in some) for n in NAMES))


def semantic_id_ranks(evaluation: Evaluation, semantic_ids: SemanticIds) -> np.ndarray:
    """int32[users]: ranks if any item with the target's learnt codes were a hit, as some public evaluations count.

    To show how much that inflates; the last level, which tells such items apart, is left out.
    """
    groups = np.unique(semantic_ids.codes[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)
    recommended = np.where(evaluation.recommended >= 0, groups[evaluation.recommended], -1)
    return item_ranks(recommended, groups[evaluation.targets])


def content_vectors(workdir: epath.Path) -> np.ndarray | None:
    """float32[items, width], the embeddings that the semantic IDs were learnt from; None where they are not there."""
    path = workdir / "item_embeddings" / "embeddings.npy"
    return load_array(path) if path.exists() else None
