"""Evaluation of the multi-stage recommender on the test split, with weights fitted on the validation split.

multi_stage/
  weights.json             weights of the ranker's features and of the final scores
  test.json, test.txt, test_users.parquet   the files of genrec.evaluation.results; `stages` has a row per stage
"""

import dataclasses
import time
from collections.abc import Mapping

import jax
import numpy as np
from absl import logging
from etils import epath

from genrec import files, printing, settings_check, tables
from genrec.config import ConfigError, Experiment
from genrec.data.dataset import Dataset
from genrec.evaluation import identity, metrics, results
from genrec.evaluation.evaluator import Evaluation, item_ranks
from genrec.ranking import multi_stage, scoring
from genrec.ranking.assembly import FOLDER, WEIGHTS, load_ranker, load_sources
from genrec.ranking.multi_stage import RANKER, MultiStageRecommender
from genrec.ranking.popular import popularity
from genrec.ranking.ranker import FeatureRanker


def evaluate(experiment: Experiment, workdir: epath.PathLike, checkpoint: str = "best") -> None:
    """Fits ranker and final weights, evaluates all stages, writes `workdir/multi_stage` and prints the tables.

    It runs in one process, on all devices of it. Raises ConfigError if there are several processes, for invalid
    settings and for weights of unknown scores, ArtifactError for models that were not trained, DataError for unknown
    columns.
    """
    settings_check.check(experiment)
    if jax.process_count() > 1:
        raise ConfigError("the multi-stage recommender is evaluated by one process. Run the command on one host.")
    workdir, cfg = epath.Path(workdir), experiment.multi_stage
    identity.require_plain(experiment.evaluation, "the evaluation of the multi-stage recommender")
    cutoffs = _cutoffs(experiment)
    top = max(cutoffs)
    dataset = Dataset(workdir / "dataset")
    popular = popularity(dataset)
    found = load_sources(experiment, workdir, dataset, popular, checkpoint)
    ranker = load_ranker(experiment, workdir, dataset, popular) if cfg.ranker else None
    rules = scoring.Rules(cfg.scoring, dataset.catalogue, popular)
    given = _given_weights(cfg.weights, [*found, *([RANKER] if ranker else [])])
    recommender = MultiStageRecommender(found, ranker, rules, given, cfg.candidates, len(dataset.catalogue))
    max_history = experiment.training.max_history
    _fit(recommender, ranker, dataset, given, cfg.fit_users, max_history)
    weights = {"final": recommender.weights, "ranker": ranker.weights if ranker else None}
    files.write_json(workdir / FOLDER / WEIGHTS, weights)

    users, histories, targets = _split(dataset, "test", max_history)
    recommender.stages(users[:64], histories[:64], top)  # compiles, so that the seconds below leave that out
    start = time.monotonic()
    stages = recommender.stages(users, histories, top)
    seconds = time.monotonic() - start
    ranks = {name: item_ranks(lists.items, targets) for name, lists in stages.lists.items()}
    final = item_ranks(stages.final.items, targets)
    rows = multi_stage.report(stages, targets, metrics.shown_cutoff(cutoffs))
    evaluation = Evaluation(
        metrics=metrics.compute(final, cutoffs),
        user_ids=users,
        targets=targets,
        ranks=final,
        recommended=stages.final.items,
    )
    details = {
        "dataset": dataset.fingerprint,
        "settings": dataclasses.asdict(cfg),
        "weights": weights,
        "stages": rows,
        "seconds": round(seconds, 1),
    }
    by_stage = multi_stage.table(rows, "recall by stage, lift over the best source, and time")
    text = f"\n{by_stage}\n\n{_shown(weights)}"
    printing.show(results.write(workdir / FOLDER, "test", evaluation, ranks, dataset.catalogue.item_ids, details, text))
    printing.show(f"written to {workdir / FOLDER}")


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
    dataset: Dataset,
    given: dict[str, float],
    fit_users: int,
    max_history: int,
) -> None:
    """Fits the ranker, then the final weights unless they are given, on users of the validation split."""
    users, histories, targets = _split(dataset, "validation", max_history, fit_users)
    _, found, _ = recommender.candidates(users, histories)
    if ranker is not None:
        ranker.fit(users, histories, found, targets)
        found.scores[RANKER] = ranker.score(users, histories, found.items)
    recommender.weights = given or scoring.fit(found, targets, list(found.scores))


def _split(
    dataset: Dataset, name: str, max_history: int, limit: int = 0
) -> tuple[list[str], list[np.ndarray], np.ndarray]:
    """Returns user ids, histories and targets of a split; of a fixed choice of at most `limit` users if it is not 0."""
    sequences = dataset.split(name)
    chosen = np.arange(len(sequences))
    if 0 < limit < len(chosen):
        chosen = np.sort(np.random.default_rng(0).choice(len(chosen), limit, replace=False))
    found = sequences.read(chosen)
    histories = [sequence.items[:-1][-max_history:] for sequence in found]
    targets = np.array([sequence.items[-1] for sequence in found], np.int32)
    return [sequence.user_id for sequence in found], histories, targets


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
