"""Training, top to bottom: inputs, data, model, step, checkpoints, validation, loop."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from etils import epath
from flax import nnx

from genrec import artifacts
from genrec.config import ConfigError, Experiment
from genrec.data import dataset as datasets
from genrec.data.examples import Examples
from genrec.data.pipeline import TrainingBatches
from genrec.evaluation.evaluator import Evaluator
from genrec.evaluation.metrics import NAMES
from genrec.models import saved
from genrec.progress import progress
from genrec.semantic_ids import codes
from genrec.training import optimizer
from genrec.training.logs import Logs

State = dict  # params, ema, optimizer, step: int32[]


class TrainingError(ValueError):
    """Training cannot go on. The message says why, and what to change."""


def train(experiment: Experiment, workdir: epath.PathLike) -> None:
    """Stage `train`: goes on from the newest checkpoint of `workdir`, or starts; returns when the run is finished.

    Raises ArtifactError when an input is missing or a checkpoint belongs to another run, TrainingError when the loss is
    not a number.
    """
    workdir, cfg = epath.Path(workdir), experiment.training
    metric, cutoffs = cfg.best_metric, experiment.evaluation.cutoffs
    known = [f"{name}@{cutoff}" for name in NAMES for cutoff in cutoffs if cutoff <= experiment.evaluation.beams]
    if metric not in known:
        raise ConfigError(f"training.best_metric={metric!r}: with these cutoffs and beams choose of {', '.join(known)}")

    # Inputs
    dataset = datasets.Dataset(workdir / "dataset")
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, datasets.KIND, dataset.fingerprint)
    semantic_ids = codes.SemanticIds.load(workdir / "semantic_ids")
    record = saved.Record.of(experiment, semantic_ids.sizes, semantic_ids.fingerprint, dataset.fingerprint)

    # Data
    tokens = record.tokens(semantic_ids)
    batches = TrainingBatches(dataset.split("train"), tokens, cfg, experiment.seed)

    # Model and step
    tx = optimizer.make(cfg)
    graphdef, state = initialise(record, tx)
    step_fn = make_step(graphdef, tx, experiment)
    logging.info(
        "%.2fM parameters; %d targets, %d steps of about %.0f targets an epoch, %.1f%% of a batch is padding",
        sum(leaf.size for leaf in jax.tree.leaves(state["params"])) / 1e6,
        batches.targets.sum(),
        batches.steps_per_epoch,
        batches.targets_per_step,
        100 * batches.padding,
    )

    # Checkpoints: go on where the newest one stands
    checkpoints = saved.Checkpoints(workdir)
    first_step = checkpoints.latest_step or 0
    if first_step:
        earlier = checkpoints.record(first_step)
        if differences := earlier.differences(record):
            raise artifacts.ArtifactError(
                f"{workdir / saved.FOLDER}: the checkpoints are of another run: {'; '.join(differences)}. "
                "Undo the change, choose another --workdir, or delete the checkpoints."
            )
        if earlier.finished:
            logging.info("training is already finished, at step %d", first_step)
            checkpoints.close()
            return
        record = earlier
        state = checkpoints.restore(first_step, state)
        logging.info("going on from step %d", first_step)

    # Validation
    evaluator = Evaluator(
        graphdef,
        semantic_ids,
        dataset,
        "validation",
        experiment.evaluation,
        tokens,
        record.max_history,
        record.causal,
        users=cfg.validation_users,
    )

    # Loop
    logs = Logs(workdir, first_step)
    learning_rate = optimizer.schedule(cfg)
    window, window_start = [], time.monotonic()
    try:
        steps = range(first_step + 1, cfg.steps + 1)
        for step, examples in zip(progress(steps, "train"), batches.iterate(first_step, cfg.steps), strict=True):
            with jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, jax.device_put(examples))
            window.append(metrics)
            validate = step % cfg.validate_every == 0 or step == cfg.steps
            if step % cfg.log_every == 0 or validate:
                logs.write(step, "train", summarise(window, window_start, float(learning_rate(step - 1))))
                window, window_start = [], time.monotonic()
            if validate:
                validation = evaluator.run(state["ema"]).metrics
                logs.write(step, "validation", validation)
                best = checkpoints.best()
                is_best = best is None or validation[metric] > best[1]
                record.validations_without_best = 0 if is_best else record.validations_without_best + 1
                out_of_patience = 0 < cfg.patience <= record.validations_without_best
                record.finished = step == cfg.steps or out_of_patience
                checkpoints.save(step, state, record, validation[metric])
                if out_of_patience:
                    logging.info("no better %s for %d validations: stopping", metric, cfg.patience)
                    break
                window_start = time.monotonic()
            if step == cfg.stop_after:
                logging.info("stopping after step %d, as training.stop_after asks", step)
                break
    finally:
        checkpoints.close()
        logs.close()


def initialise(record: saved.Record, tx: optax.GradientTransformation) -> tuple[nnx.GraphDef, State]:
    """The model's structure and the state before the first step."""
    graphdef, params = saved.create(record)
    state = {
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "optimizer": jax.jit(tx.init)(params),
        "step": jnp.zeros((), jnp.int32),
    }
    return graphdef, state


def make_step(
    graphdef: nnx.GraphDef, tx: optax.GradientTransformation, experiment: Experiment
) -> Callable[[State, Examples], tuple[State, dict[str, jax.Array]]]:
    """The jitted training step; it takes over the memory of the state that it is given."""
    parts = experiment.training.accumulate

    def step_fn(state: State, examples: Examples) -> tuple[State, dict[str, jax.Array]]:
        # The key depends on nothing but seed and step, so that a resumed run draws the same dropout.
        key = jax.random.fold_in(jax.random.key(experiment.seed), state["step"])

        def add_up(sums: tuple, part: tuple[jax.Array, Examples]) -> tuple[tuple, None]:
            """Adds the losses and gradients of one part of the batch."""
            number, examples = part

            def loss_fn(params: nnx.State) -> tuple[jax.Array, jax.Array]:
                losses = nnx.merge(graphdef, params).losses(examples, jax.random.fold_in(key, number))
                per_level = jnp.where((examples.target_segments > 0)[..., None], losses, 0).sum((0, 1))
                return per_level.sum(), per_level

            gradients, per_level = jax.grad(loss_fn, has_aux=True)(state["params"])
            return jax.tree.map(jnp.add, sums, (gradients, per_level)), None

        zeros = jax.tree.map(jnp.zeros_like, state["params"]), jnp.zeros(examples.targets.shape[-1])
        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), examples)
        sums, _ = jax.lax.scan(add_up, zeros, (jnp.arange(parts), split))
        targets = (examples.target_segments > 0).sum()
        gradients, per_level = jax.tree.map(lambda total: total / targets, sums)
        updates, optimizer_state = tx.update(gradients, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        # Early on the average follows the weights more closely, so that it forgets the initialisation.
        decay = jnp.minimum(experiment.training.ema, (1 + state["step"]) / (10 + state["step"]))
        new_state = {
            "params": params,
            "ema": jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state["ema"], params),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
        }
        metrics = {
            "loss": per_level.sum(),
            "loss_per_level": per_level,
            "gradient_norm": optax.tree.norm(gradients),
            "targets": targets,
        }
        return new_state, metrics

    return jax.jit(step_fn, donate_argnums=0)


def summarise(window: list[dict[str, jax.Array]], window_start: float, learning_rate: float) -> dict[str, float]:
    """Means over the steps since the last line. Raises TrainingError when a loss is not a number."""
    steps = {name: np.stack(values) for name, values in _transpose(jax.device_get(window)).items()}
    seconds = time.monotonic() - window_start
    loss, gradient_norm = float(steps["loss"].mean()), float(steps["gradient_norm"].mean())
    if not np.isfinite(loss + gradient_norm):
        raise TrainingError(
            f"the loss is {loss}, the norm of its gradient {gradient_norm}. The last checkpoint is good: lower "
            f"training.learning_rate (it stands at {learning_rate:.2g}) or training.gradient_clip, or lengthen "
            "training.warmup_steps, in a new --workdir."
        )
    return {
        "loss": loss,
        **{f"loss_level_{level}": value for level, value in enumerate(steps["loss_per_level"].mean(axis=0))},
        "gradient_norm": gradient_norm,
        "learning_rate": learning_rate,
        "targets_per_second": steps["targets"].sum() / seconds,
    }


def _transpose(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}
