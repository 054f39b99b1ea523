"""Evaluation of all checkpoints of a run, or of each as it appears, and a table of them.

evaluation/, or the folder in it for a variant (genrec.evaluation.identity):
  step_<step>/           the files of genrec.evaluation.results
  <split>_steps.json     for each step the metrics of the model and of the baselines
  <split>_steps.txt      the table
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging
from etils import epath

from genrec import artifacts, distributed, printing, settings_check, sharding, tables
from genrec import files as file_io
from genrec.config import Experiment
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate, identity, metrics, results
from genrec.models import checkpoints

OWN = ("step", "parameters", "sasrec")  # what may differ between the evaluations of a table


def evaluate_all(
    experiment: Experiment,
    workdir: epath.PathLike,
    splits: Sequence[str],
    watch: bool = False,
    poll_seconds: float = 30.0,
    patience_seconds: float = float("inf"),
    checkpoints_of: epath.PathLike | None = None,
    results_in: epath.PathLike | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Evaluates every checkpoint of a run that has no results yet, so that the same call resumes an interrupted one.

    With `watch`, looks for new checkpoints every `poll_seconds`, until training is finished and all are evaluated, or
    until none has come for `patience_seconds`. A checkpoint that cannot be read, because it may still be written, is
    tried again at the next look; without `watch` it is left out with a warning. `checkpoints_of` is that of
    `loaded_model.load`, `results_in` that of `evaluate.evaluate`.

    Raises ArtifactError if a checkpoint does not belong to the dataset and the semantic IDs of `workdir`, or if there
    is none to evaluate; for other errors see `evaluate.evaluate`.
    """
    workdir, made_by = epath.Path(workdir), epath.Path(checkpoints_of or workdir)
    settings_check.check(experiment)
    folder = identity.folder(results_in or workdir, experiment.evaluation)
    for split in splits:
        evaluate.check_split(split)
    prepared: dict[tuple[str, str], evaluate.CheckpointEvaluator] = {}
    done: set[int] = set()
    idle = 0.0
    while True:
        new = [step for step in checkpoints.steps(made_by) if step not in done]
        finished = False
        for step in new:
            try:
                finished |= _evaluate(experiment, workdir, made_by, folder / f"step_{step}", splits, step, prepared)
            except checkpoints.UnreadableCheckpointError as problem:
                logging.warning("%s", problem)
                continue
            done.add(step)
            idle = 0.0
            if distributed.is_first():
                _summarize(folder, splits, step)
        if not watch or finished or idle >= patience_seconds:
            break
        sleep(poll_seconds)
        idle += poll_seconds
    if not done:
        raise artifacts.ArtifactError(
            f"{made_by / checkpoints.FOLDER}: no checkpoint that can be read. Train first (launch/train.py), or give "
            "--watch to wait for one."
        )


def _evaluate(
    experiment: Experiment,
    workdir: epath.Path,
    made_by: epath.Path,
    folder: epath.Path,
    splits: Sequence[str],
    step: int,
    prepared: dict[tuple[str, str], evaluate.CheckpointEvaluator],
) -> bool:
    """Evaluates a checkpoint that has no results in `folder` yet; returns True if it is the last one of a training."""
    loaded = loaded_model.load(workdir, str(step), sharding.make_mesh(experiment.mesh), made_by)
    wanted = identity.of(loaded, experiment, workdir)
    for split in splits:
        if identity.is_done(folder, split, wanted):
            logging.info("step %d is already evaluated on the %s split", step, split)
            continue
        key = split, str(wanted["sasrec"])  # whose lists are kept in the evaluator: it may be trained meanwhile
        if key not in prepared:
            prepared[key] = evaluate.CheckpointEvaluator(experiment, workdir, split, loaded)
        prepared[key].run(loaded, folder)
    return loaded.record.finished


def _summarize(folder: epath.Path, splits: Sequence[str], last: int) -> None:
    """Writes and prints the table of all steps, those of deleted checkpoints too, that compare with the step `last`.

    Those that were evaluated in another way, such as with other beams, are left out.
    """

    def comparable(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.get("identity", {}).items() if name not in OWN}

    for split in splits:
        files = {int(path.parent.name.removeprefix("step_")): path for path in folder.glob(f"step_*/{split}.json")}
        found = {step: file_io.read_json(files[step]) for step in sorted(files)}
        rows = [row for row in found.values() if comparable(row) == comparable(found[last])]
        keep = ("identity", "variant", "metrics", "baselines")
        file_io.write_json(folder / f"{split}_steps.json", [{name: row[name] for name in keep} for row in rows])
        text = table(rows, split)
        file_io.write_text(folder / f"{split}_steps.txt", text + "\n")
        printing.show(f"\n{text}\n")


def table(rows: Sequence[dict[str, Any]], split: str) -> str:
    """Returns plain text with one line per step, then one per baseline; `rows` are the figures of evaluations."""
    cutoffs = metrics.cutoffs_of(rows[-1]["metrics"])
    first = metrics.shown_cutoff(cutoffs)
    names = dict.fromkeys((f"recall@{first}", f"ndcg@{first}", f"recall@{cutoffs[-1]}"))
    models = [(f"step {row['identity']['step']}", row["metrics"]) for row in rows]
    models += list(rows[-1]["baselines"].items())
    lines = ([model, *(figures[name] for name in names)] for model, figures in models)
    rule = results.history_rule(rows[-1]["identity"]["exclude_history"])
    return tables.text(lines, ["; ".join([f"{split} split", rule, *rows[-1]["variant"]]), *names])
