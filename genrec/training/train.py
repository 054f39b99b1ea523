"""Training, top to bottom: devices, inputs, data, model, step, checkpoints, validation, loop."""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import artifacts, distributed, sharding
from genrec.config import ConfigError, Experiment
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset
from genrec.decoding import sorted_table
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.retrieval import Retriever
from genrec.errors import GenrecError
from genrec.evaluation.evaluator import Evaluator
from genrec.evaluation.metrics import NAMES
from genrec.input_pipeline.examples import Tokenizer
from genrec.input_pipeline.tasks import LOG_ALONE, Mixture
from genrec.input_pipeline.training_batches import TrainingBatches
from genrec.models import checkpoints as checkpointing
from genrec.models import run_record, sasrec, user_context
from genrec.models.recommender import Recommender
from genrec.progress import progress
from genrec.semantic_ids import codes
from genrec.training import optimizer, preemption, run_setup
from genrec.training.metric_logs import Logs
from genrec.training.step import describe, make_step, start
from genrec.training.throughput import Speedometer, Trace

STEPS_AHEAD = 2  # steps that may wait for the device: more would delay the answer to a notice of preemption


class TrainingError(GenrecError):
    """Training cannot go on. The message says why, and what to change."""


class Task(NamedTuple):
    """What is trained: a model that a record describes, on the training split of a dataset."""

    experiment: Experiment  # its `model` and `training` are those of this model
    workdir: epath.Path  # of its checkpoints and logs
    dataset: Dataset
    record: run_record.RunRecord
    tokenizer: Tokenizer
    retriever: Callable[[nnx.GraphDef, Mesh], Retriever | ExhaustiveRetriever]  # what validates it
    mixture: Mixture = LOG_ALONE  # what is trained beside the log
    begin: Callable[[Recommender], None] | None = None  # changes the model as drawn, before the first step


def train(experiment: Experiment, workdir: epath.PathLike) -> None:
    """Stage `train`: goes on from the newest checkpoint of `workdir`, or starts; returns when the run is finished.

    Among several processes, all of them call this. Raises ArtifactError when an input is missing or a checkpoint
    belongs to another run, ConfigError for settings that cannot be, TrainingError when the loss is not a number, and
    Preempted after a SIGTERM, with the state saved.
    """
    check(experiment)
    workdir = epath.Path(workdir)
    dataset = Dataset(workdir / "dataset")
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, datasets.KIND, dataset.fingerprint)
    semantic_ids = codes.SemanticIds.load(workdir / "semantic_ids")
    record = run_setup.record_of(experiment, semantic_ids, dataset, workdir)
    tokenizer = record.tokenizer(semantic_ids, user_context.load(record, dataset, workdir))

    def retriever(graphdef: nnx.GraphDef, mesh: Mesh) -> Retriever:
        distributed.on_first(lambda: sorted_table.save(workdir, semantic_ids))
        table, cfg = sorted_table.load(workdir, semantic_ids), experiment.evaluation
        return Retriever.over(graphdef, table, cfg.beams, mesh, cfg.sharded_table)

    mixture = run_setup.mixture_of(experiment, tokenizer, dataset)
    begin = run_setup.beginning_of(experiment, semantic_ids, dataset, tokenizer, mixture, workdir)
    fit(Task(experiment, workdir, dataset, record, tokenizer, retriever, mixture, begin))


def train_sasrec(experiment: Experiment, workdir: epath.PathLike) -> None:
    """Trains the baseline SASRec on the dataset of `workdir`, in `workdir/sasrec`; otherwise as `train`."""
    own = dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.sasrec.model, decoder_layers=0),
        training=experiment.sasrec.training,
    )
    check(own)
    dataset = Dataset(epath.Path(workdir) / "dataset")
    items = len(dataset.catalogue)
    record = run_record.RunRecord.of(own, (items,), semantic_ids="", dataset=dataset.fingerprint)
    record = dataclasses.replace(record, kind="sasrec", validation={})

    def retriever(graphdef: nnx.GraphDef, mesh: Mesh) -> ExhaustiveRetriever:
        return ExhaustiveRetriever(graphdef, items, own.evaluation.beams, mesh)

    fit(Task(own, epath.Path(workdir) / checkpointing.SASREC, dataset, record, sasrec.tokenizer(items), retriever))


def check(experiment: Experiment) -> None:
    """Raises ConfigError for settings by which checkpoints could not be chosen or kept."""
    cfg, metric, cutoffs = experiment.training, experiment.training.best_metric, experiment.evaluation.cutoffs
    known = [f"{name}@{cutoff}" for name in NAMES for cutoff in cutoffs if cutoff <= experiment.evaluation.beams]
    if metric not in known:
        raise ConfigError(f"training.best_metric={metric!r}: with these cutoffs and beams choose of {', '.join(known)}")
    if cfg.keep_latest < 1 or cfg.keep_best < 1:
        raise ConfigError(
            "training.keep_latest and training.keep_best must be at least 1: a run goes on from the latest"
        )


def fit(task: Task) -> None:
    """Trains a task to its end, from its newest checkpoint where it has one; for errors see `train`."""
    experiment, workdir, dataset, record, tokenizer, make_retriever, mixture, begin = task
    cfg = experiment.training

    # Devices
    mesh = sharding.make_mesh(experiment.mesh)

    # Data: every process makes its own rows of each batch
    parts = cfg.accumulate * sharding.parts(mesh, "batch")
    batches = TrainingBatches(
        dataset.split("train"), tokenizer, cfg, experiment.seed, rows_multiple=parts, mixture=mixture
    )
    own_rows = sharding.own_rows(mesh, batches.padded_rows)

    # Model and step
    tx = optimizer.make(cfg, experiment.model.parameters)
    run = describe(record, tx, mesh)
    step_fn = make_step(run, tx, experiment)
    logging.info(
        "%.2fM parameters on %s; %d targets, %d steps of about %.0f targets an epoch, %.1f%% of a batch is padding",
        sum(leaf.size for leaf in jax.tree.leaves(run.abstract["params"])) / 1e6,
        " x ".join(f"{size} {axis}" for axis, size in mesh.shape.items()),
        batches.targets.sum(),
        batches.steps_per_epoch,
        batches.targets_per_step,
        100 * batches.padding,
    )

    # Checkpoints: go on where the newest one stands
    checkpoints = checkpointing.Checkpoints(workdir, cfg.keep_best, cfg.keep_latest)
    resumed = checkpoints.resume(record, run.abstract)
    if resumed is None:
        first_step, state = 0, start(run, begin)
    else:
        first_step, record, state = resumed.step, resumed.record, resumed.state
        logging.info("resuming from step %d", first_step)
    if record.finished:
        logging.info("training is already finished")
        checkpoints.close()
        return

    # Validation
    evaluator = Evaluator(
        make_retriever(run.graphdef, mesh),
        dataset,
        "validation",
        experiment.evaluation,
        tokenizer,
        record.max_history,
        record.causal,
        users=cfg.validation_users,
    )

    # Loop
    incoming = batches.iterate(resumed.data["next_batch"] if resumed else 0, cfg.steps, own_rows)
    logs = Logs(workdir, first_step)
    speed = Speedometer(experiment, record.sizes, batches.packing.row_tokens, mesh)
    trace = Trace(workdir / "profile", first_step, cfg.profile_steps)
    learning_rate = optimizer.schedule(cfg)
    window: list[dict[str, jax.Array]] = []  # metrics of the steps since the last line of the logs
    waiting: deque[jax.Array] = deque()
    preempted = preemption.PreemptionSignal()

    def is_validation_due(step: int) -> bool:
        return step > record.validated and (step % cfg.validate_every == 0 or step == cfg.steps)

    with preempted, jax.set_mesh(mesh):
        try:
            speed.restart()
            # Where a notice of preemption cut a validation short, the first turn makes up for it and does no step.
            first_turn = first_step if is_validation_due(first_step) else first_step + 1
            for step in progress(range(first_turn, cfg.steps + 1), "train"):
                validate, metric_value = is_validation_due(step), checkpointing.NOT_VALIDATED
                if step > first_step:
                    examples = sharding.put_rows(mesh, next(incoming), batches.padded_rows)
                    with trace.of(step), jax.transfer_guard("disallow"):
                        state, metrics = step_fn(state, examples)
                    window.append(metrics)
                    waiting.append(metrics["loss"])
                    if len(waiting) > STEPS_AHEAD:
                        waiting.popleft().block_until_ready()
                periodic = cfg.checkpoint_every > 0 and step % cfg.checkpoint_every == 0
                # A line before every checkpoint: the lines of a resumed run are then those of an uninterrupted one.
                if window and (step % cfg.log_every == 0 or validate or periodic or preempted.requested()):
                    done = jax.device_get(window)
                    figures = summarize(done, float(learning_rate(step - 1))) | speed.measure(done)
                    logs.write(step, "train", figures)
                    window.clear()
                if validate and (validation := evaluator.run(state["ema"], stop=preempted.requested)) is not None:
                    logs.write(step, "validation", validation.metrics)
                    metric_value = validation.metrics[cfg.best_metric]
                    best = checkpoints.best()
                    record.validated = step
                    is_best = best is None or metric_value > best[1]
                    record.validations_without_best = 0 if is_best else record.validations_without_best + 1
                    record.finished = step == cfg.steps or 0 < cfg.patience <= record.validations_without_best
                leaving = preempted.requested()  # read once for both decisions below: it may change at any time
                if step == record.validated or (step > first_step and (periodic or leaving)):
                    checkpoints.save(step, state, {"next_batch": step}, record, metric_value)
                if leaving:
                    logging.info("saved step %d; the same command goes on from there", step)
                    raise preemption.Preempted
                if record.finished:
                    if step < cfg.steps:
                        logging.info("no better %s for %d validations: stopping", cfg.best_metric, cfg.patience)
                    break
                if step >= cfg.stop_after > 0:
                    logging.info("stopping after step %d, as training.stop_after asks", step)
                    break
                if validate or periodic:
                    speed.restart()
        finally:
            trace.close()
            speed.close()
            checkpoints.close()
            logs.close()


def summarize(steps: Sequence[dict[str, np.ndarray]], learning_rate: float) -> dict[str, float]:
    """Means over the metrics of steps. Raises TrainingError when a loss is not a number."""
    loss, gradient_norm, per_level = (
        sum(step[name] for step in steps) / len(steps) for name in ("loss", "gradient_norm", "loss_per_level")
    )
    if not math.isfinite(loss + gradient_norm):
        raise TrainingError(
            f"the loss is {loss}, the norm of its gradient {gradient_norm}. The last checkpoint is good: lower "
            f"training.learning_rate (it stands at {learning_rate:.2g}) or training.gradient_clip, or lengthen "
            "training.warmup_steps, in a new --workdir."
        )
    texts = [float(step["text_loss"]) for step in steps if "text_loss" in step]
    return {
        "loss": float(loss),
        **({"text_loss": sum(texts) / len(texts)} if texts else {}),
        **{f"loss_level_{level}": float(value) for level, value in enumerate(per_level)},
        "gradient_norm": float(gradient_norm),
        "learning_rate": learning_rate,
    }
