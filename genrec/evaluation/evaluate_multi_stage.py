"""Evaluation of the multi-stage recommender on the test split, with weights fitted on the validation split.

multi_stage/, in the work directory
  weights.json             weights of the ranker's features and of the final scores
  trees.json               the trees, where they make the final scores
  test.json, test.txt, test_users.parquet   the files of genrec.evaluation.results; `stages` has a row per stage
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from etils import epath

from genrec import artifacts, files, printing, settings_check, tables
from genrec.config import ConfigError, Experiment
from genrec.data.dataset import Dataset
from genrec.evaluation import identity, metrics, results
from genrec.evaluation.evaluator import Evaluation, item_ranks
from genrec.ranking import boosted_trees, multi_stage, scoring
from genrec.ranking.assembly import FOLDER, TREES, WEIGHTS, load_ranker, load_sources
from genrec.ranking.boosted_trees import BoostedTrees
from genrec.ranking.candidates import Candidates
from genrec.ranking.multi_stage import RANKER, MultiStageRecommender
from genrec.ranking.popular import popularity
from genrec.ranking.ranker import FeatureRanker


class Users(NamedTuple):
    """Users of a split."""

    ids: list[str]
    histories: list[np.ndarray]  # int32[n], catalogue rows, the last ones before the target
    targets: np.ndarray  # int32[users]
    exclude: list[np.ndarray] | None  # int32[n], all items before the target if lists exclude them


def evaluate(
    experiment: Experiment,
    workdir: epath.PathLike,
    checkpoint: str = "best",
    results_in: epath.PathLike | None = None,
) -> None:
    """Fits ranker and final weights, evaluates all stages, writes `results_in/multi_stage` and prints the tables.

    `results_in` is by default `workdir`, where the scorer of items finds the weights. It runs in one process, on all
    devices of it. Raises ConfigError if there are several processes, for invalid settings and for weights of unknown
    scores, ArtifactError for models that were not trained, DataError for unknown columns.
    """
    settings_check.check(experiment)
    if jax.process_count() > 1:
        raise ConfigError("the multi-stage recommender is evaluated by one process. Run the command on one host.")
    workdir, cfg, exclude_history = epath.Path(workdir), experiment.multi_stage, experiment.evaluation.exclude_history
    folder = epath.Path(results_in or workdir) / FOLDER
    identity.require_plain(experiment.evaluation, "the evaluation of the multi-stage recommender")
    cutoffs = _cutoffs(experiment)
    dataset = Dataset(workdir / "dataset")
    popular = popularity(dataset)
    found = load_sources(experiment, workdir, dataset, popular, checkpoint)
    ranker = load_ranker(experiment, workdir, dataset, popular) if cfg.ranker else None
    rules = scoring.Rules(cfg.scoring, dataset.catalogue, popular)
    given = _given_weights(cfg.weights, [*found, *([RANKER] if ranker else [])])
    recommender = MultiStageRecommender(found, ranker, rules, given, cfg.candidates, len(dataset.catalogue))
    reading = experiment.training.max_history, exclude_history
    compared = _fit(recommender, ranker, _read(dataset, "validation", reading, cfg.fit_users), given, cfg.trees)
    weights = {"final": recommender.weights, "ranker": ranker.weights if ranker else None}
    trees = _write_fitted(folder, weights, recommender.trees)

    users = _read(dataset, "test", reading)
    stages, seconds = _timed(recommender, users, max(cutoffs))
    ranks = {name: item_ranks(lists.items, users.targets) for name, lists in stages.lists.items()}
    final = item_ranks(stages.final.items, users.targets)
    rows = multi_stage.report(stages, users.targets, metrics.shown_cutoff(cutoffs))
    evaluation = Evaluation(
        metrics=metrics.compute(final, cutoffs),
        user_ids=users.ids,
        targets=users.targets,
        ranks=final,
        recommended=stages.final.items,
    )
    details = {
        "dataset": dataset.fingerprint,
        "settings": dataclasses.asdict(cfg),
        "sources": dict(zip(found, dict.fromkeys(cfg.sources), strict=True)),  # by their names in tables
        "item_knn": dataclasses.asdict(experiment.item_knn),
        "weights": weights,
        "final": "weighted sum" if recommender.trees is None else "trees",
        "trees": trees,
        "validation_ndcg": compared,
        "stages": rows,
        "seconds": round(seconds, 1),
    }
    by_stage = multi_stage.table(rows, "recall by stage, lift over the best source, and time")
    text = f"\n{by_stage}\n\n{_shown(weights)}{_choice(compared)}"
    of = dataset.catalogue.item_ids
    printing.show(results.write(folder, "test", evaluation, ranks, of, details, text, exclude_history=exclude_history))
    printing.show(f"written to {folder}")


def _write_fitted(folder: epath.Path, weights: Mapping[str, object], trees: BoostedTrees | None) -> str:
    """Writes what was fitted; returns the hash of the trees."""
    fields = None if trees is None else trees.for_serving().as_json()
    files.write_json(folder / WEIGHTS, weights)
    files.write_text(folder / TREES, files.to_json({"trees": fields}))
    return artifacts.hash_of(fields)


def _timed(recommender: MultiStageRecommender, users: Users, top: int) -> tuple[multi_stage.Stages, float]:
    """Returns the stages for all users and their seconds, which leave out most of what is compiled."""
    exclude = users.exclude
    recommender.stages(users.ids[:64], users.histories[:64], top, exclude and exclude[:64])
    start = time.monotonic()
    stages = recommender.stages(users.ids, users.histories, top, exclude)
    return stages, time.monotonic() - start


def _cutoffs(experiment: Experiment) -> tuple[int, ...]:
    """Returns the cutoffs that the lists of every source can show; raises ConfigError if there is none."""
    candidates, wanted = experiment.multi_stage.candidates, experiment.evaluation.cutoffs
    cutoffs = tuple(cutoff for cutoff in wanted if cutoff <= candidates)
    if not cutoffs:
        raise ConfigError(
            f"multi_stage.candidates={candidates}, the length of the lists, is below all evaluation.cutoffs {wanted}."
        )
    if len(cutoffs) < len(wanted):
        logging.warning("metrics beyond %d candidates are left out: lists are no longer than that", candidates)
    return cutoffs


def _given_weights(texts: tuple[str, ...], names: list[str]) -> dict[str, float]:
    """Returns the weights by name; raises ConfigError for a text that is not NAME=NUMBER, or an unknown name."""
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ConfigError(f"multi_stage.weights: {text!r} is not NAME=NUMBER, such as generator=0.5") from None
        if name not in names:
            raise ConfigError(f"multi_stage.weights: there is no score {name!r}. Choose from {', '.join(names)}.")
    return found


def _fit(
    recommender: MultiStageRecommender,
    ranker: FeatureRanker | None,
    users: Users,
    given: dict[str, float],
    trees: bool,
) -> dict[str, float] | None:
    """Fits the ranker, then the final scores unless their weights are given, on users of the validation split.

    Returns the NDCG by which trees or a weighted sum were chosen, None where there was no choice.
    """
    _, found, _ = recommender.candidates(users.ids, users.histories, users.exclude)
    if ranker is not None:
        ranker.fit(found, users.targets)
        found.scores[RANKER] = ranker.combine(found.items, found.features)
    names = list(found.scores)
    recommender.weights = given or scoring.fit(found, users.targets, names)
    if given or not trees:
        return None

    def weighted_sum(own: Candidates, targets: np.ndarray) -> boosted_trees.Scores:
        weights = scoring.fit(own, targets, names)
        return lambda others: scoring.pool(others, weights)

    try:
        compared = boosted_trees.choose(found, users.targets, weighted_sum)
    except ValueError:  # too few users to compare
        return None
    if compared["trees"] > compared["weighted sum"]:
        recommender.trees = BoostedTrees(found, users.targets)
    return compared


def _read(dataset: Dataset, name: str, reading: tuple[int, bool], limit: int = 0) -> Users:
    """Returns the users of a split, a fixed choice of at most `limit` if it is not 0.

    `reading` is the most items of a history, and whether the lists exclude all items before the target.
    """
    max_history, exclude_history = reading
    sequences = dataset.split(name)
    chosen = np.arange(len(sequences))
    if 0 < limit < len(chosen):
        chosen = np.sort(np.random.default_rng(0).choice(len(chosen), limit, replace=False))
    found = sequences.read(chosen)
    before = [sequence.items[:-1] for sequence in found]
    return Users(
        [sequence.user_id for sequence in found],
        [items[-max_history:] for items in before],
        np.array([sequence.items[-1] for sequence in found], np.int32),
        before if exclude_history else None,
    )


def _shown(weights: Mapping[str, Mapping[str, float] | None]) -> str:
    """Returns tables of the weights of the final scores and of the ranker, the largest first."""
    return "\n\n".join(
        tables.text(
            [(of, found[of]) for of in sorted(found, key=lambda of: -abs(found[of]))],
            [f"weights of {name}", ""],
            "+.3f",
        )
        for name, found in weights.items()
        if found
    )


def _choice(compared: Mapping[str, float] | None) -> str:
    """Returns a line on which final scores were chosen, empty where there was no choice."""
    if compared is None:
        return ""
    figures = ", ".join(f"{name} {value:.4f}" for name, value in compared.items())
    best = max(compared, key=lambda name: compared[name])
    return f"\n\nfinal scores: {best} (NDCG@10 on validation users that were not fitted: {figures})"
