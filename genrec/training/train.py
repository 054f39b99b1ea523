"""Training, top to bottom: devices, data, model, checkpoints, validation, loop."""

from contextlib import closing

import jax
from absl import logging
from etils import epath
from jax.sharding import Mesh

from genrec import sharding
from genrec.config import Experiment, Training
from genrec.evaluation import identity
from genrec.evaluation.evaluator import Evaluator
from genrec.input_pipeline.training_batches import TrainingBatches
from genrec.models.checkpoints import NOT_VALIDATED, Checkpoints, Resumed
from genrec.models.run_record import RunRecord
from genrec.progress import progress
from genrec.training import optimizer, run_setup
from genrec.training.metric_logs import Logs, summarize
from genrec.training.preemption import Preempted, PreemptionSignal
from genrec.training.run_setup import RunSetup
from genrec.training.step import Step, describe, make_step, start
from genrec.training.throughput import ThroughputMeter, Trace

STEPS_AHEAD = 2  # steps that are queued on the devices: with more, training would react later to a preemption


def train(experiment: Experiment, workdir: epath.PathLike) -> None:
    """Stage `train`: trains the generative recommender to the end, from the newest checkpoint of `workdir` if any.

    Among several processes, all call this. Raises ArtifactError when an input is missing or a checkpoint belongs to
    another run, ConfigError for invalid settings, TrainingError when the loss is not finite, and Preempted after a
    SIGTERM, with the state saved.
    """
    fit(run_setup.generator(experiment, epath.Path(workdir)))


def train_sasrec(experiment: Experiment, workdir: epath.PathLike) -> None:
    """Trains the baseline SASRec on the dataset of `workdir`, in `workdir/sasrec`; otherwise as `train`."""
    fit(run_setup.baseline(experiment, epath.Path(workdir)))


def fit(setup: RunSetup) -> None:
    """Trains the model of a setup to the end; for errors see `train`."""
    experiment, record, cfg = setup.experiment, setup.record, setup.experiment.training

    # Devices
    mesh = sharding.make_mesh(experiment.mesh)

    # Data
    parts = cfg.accumulate * sharding.parts(mesh, "batch")
    sequences = setup.dataset.split("train")
    batches = TrainingBatches(sequences, setup.tokenizer, cfg, experiment.seed, parts, mixture=setup.mixture)

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

    # Checkpoints: resume from the newest one
    checkpoints = Checkpoints(setup.workdir, cfg.keep_best, cfg.keep_latest)
    resumed = checkpoints.resume(record, run.abstract)
    if resumed is None:
        resumed = Resumed(step=0, record=record, state=start(run, setup.warm_start), data={"next_batch": 0})
    else:
        logging.info("resuming from step %d", resumed.step)
    if resumed.record.finished:
        logging.info("training is already finished")
        checkpoints.close()
        return

    # Validation
    evaluator = Evaluator(
        setup.make_retriever(run.graphdef, mesh),
        setup.dataset,
        "validation",
        identity.plain(experiment.evaluation),
        setup.tokenizer,
        record.max_history,
        record.causal,
        users=cfg.validation_users,
    )

    _loop(setup, mesh, batches, step_fn, checkpoints, resumed, evaluator)


def _loop(
    setup: RunSetup,
    mesh: Mesh,
    batches: TrainingBatches,
    step_fn: Step,
    checkpoints: Checkpoints,
    resumed: Resumed,
    evaluator: Evaluator,
) -> None:
    """Runs the steps after those of `resumed`, with logs, validations and checkpoints."""
    cfg, first_step, record, state = setup.experiment.training, resumed.step, resumed.record, resumed.state
    incoming = batches.iterate(resumed.data["next_batch"], cfg.steps, sharding.own_rows(mesh, batches.padded_rows))
    learning_rate = optimizer.schedule(cfg)
    logs = Logs(setup.workdir, first_step)
    speed = ThroughputMeter(setup.experiment, record.sizes, batches.packing.row_tokens, mesh)
    trace = Trace(setup.workdir / "profile", first_step, cfg.profile_steps)
    window: list[dict[str, jax.Array]] = []  # metrics of the steps since the last line of the logs
    preempted = PreemptionSignal()

    with preempted, jax.set_mesh(mesh), closing(logs), closing(checkpoints), closing(speed), closing(trace):
        speed.restart()
        # A validation that a preemption interrupted is repeated first, without a step.
        first_turn = first_step if _is_validation_due(first_step, record, cfg) else first_step + 1
        for step in progress(range(first_turn, cfg.steps + 1), "train"):
            validate, metric_value = _is_validation_due(step, record, cfg), NOT_VALIDATED
            periodic = cfg.checkpoint_every > 0 and step % cfg.checkpoint_every == 0

            # Step
            if step > first_step:
                examples = sharding.put_rows(mesh, next(incoming), batches.padded_rows)
                with trace.of(step), jax.transfer_guard("disallow"):
                    state, metrics = step_fn(state, examples)
                window.append(metrics)
                jax.block_until_ready(window[:-STEPS_AHEAD][-1:])  # waits for the step before these

            # Logs: with a line before every checkpoint, a resumed run writes the lines of an uninterrupted one
            if window and (step % cfg.log_every == 0 or validate or periodic or preempted.requested()):
                done = jax.device_get(window)
                logs.write(step, "train", summarize(done, float(learning_rate(step - 1))) | speed.measure(done))
                window.clear()

            # Validation
            if validate and (figures := evaluator.measure(state["ema"], stop=preempted.requested)) is not None:
                logs.write(step, "validation", figures)
                metric_value, best = figures[cfg.best_metric], checkpoints.best()
                record.note_validation(step, is_best=best is None or metric_value > best[1])

            # Checkpoint
            leaving = preempted.requested()  # read once for both decisions below: it may change at any time
            if step == record.validated or (step > first_step and (periodic or leaving)):
                checkpoints.save(step, state, {"next_batch": step}, record, metric_value)

            # Stop
            if leaving:
                logging.info("saved step %d; the same command resumes from there", step)
                raise Preempted
            if _is_over(step, record, cfg):
                break
            if validate or periodic:
                speed.restart()


def _is_validation_due(step: int, record: RunRecord, cfg: Training) -> bool:
    return step > record.validated and (step % cfg.validate_every == 0 or step == cfg.steps)


def _is_over(step: int, record: RunRecord, cfg: Training) -> bool:
    if record.finished:
        if step < cfg.steps:
            logging.info("no better %s in %d validations: stopping", cfg.best_metric, cfg.patience)
    elif step >= cfg.stop_after > 0:
        logging.info("stopping after step %d (training.stop_after)", step)
    return record.finished or step >= cfg.stop_after > 0
