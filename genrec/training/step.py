"""The state of a training run and the jitted step that advances it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from genrec import distributed, sharding
from genrec.config import ConfigError, Experiment
from genrec.input_pipeline.examples import Examples
from genrec.models import load, run_record
from genrec.models.recommender import Recommender
from genrec.training import optimizer


class Losses(NamedTuple):
    """Sums of losses over a batch."""

    objective: jax.Array  # float32[], what is minimized: of targets with their weights, and of texts with theirs
    per_level: jax.Array  # float32[levels], over the targets, unweighted
    text: jax.Array  # float32[], over the pieces of texts, unweighted


State = dict[str, Any]  # params, ema, optimizer, step: int32[], key: a random key that never changes
Step = Callable[[State, Examples], tuple[State, dict[str, jax.Array]]]  # returns the next state and metrics
Sums = tuple[nnx.State, Losses]  # of gradients and losses


class Run(NamedTuple):
    """The constants of a training run."""

    graphdef: nnx.GraphDef
    initialize: Callable[[], State]  # returns the initial state; to be called under `jax.jit`
    abstract: State  # that state as abstract arrays with shardings
    mesh: Mesh


def describe(record: run_record.RunRecord, tx: optax.GradientTransformation, mesh: Mesh) -> Run:
    """Returns the run of a record on a mesh, without allocating arrays.

    Raises ConfigError when the mesh does not divide the model's layers into equal parts.
    """
    sizes = {"embed": "model.width", "mlp": "model.mlp", "heads": "model.heads"}
    for name, field in sizes.items():
        size, parts = record.model[field.removeprefix("model.")], sharding.parts(mesh, name)
        if size % parts:
            raise ConfigError(
                f"{field}={size} must be divisible by {parts}, the number of parts from mesh.{sharding.RULES[name]}"
            )
    structure = load.model_of(record)

    def state_of(params: nnx.State) -> State:
        return {
            "params": params,
            "ema": load.averaged(params),
            "optimizer": tx.init(params),
            "step": jnp.zeros((), jnp.int32),
            "key": jax.random.key(record.seed),
        }

    abstract = sharding.with_shardings(jax.eval_shape(state_of, structure.abstract), mesh)
    return Run(structure.graphdef, lambda: state_of(structure.initialize()), abstract, mesh)


def start(run: Run, warm_start: Callable[[Recommender], None] | None = None) -> State:
    """Returns the initial state, sharded over the mesh; `warm_start` changes the whole model in each process."""
    state = jax.jit(run.initialize, out_shardings=sharding.of(run.abstract))()
    if warm_start is None:
        return state
    model = nnx.merge(run.graphdef, jax.tree.map(lambda x: jnp.asarray(sharding.fetch(x)), state["params"]))
    warm_start(model)
    # Processes with other versions of libraries may have computed other numbers: those of process 0 count.
    whole = distributed.broadcast(jax.device_get(nnx.state(model)))
    params = jax.tree.map(
        lambda new, old: jax.make_array_from_callback(old.shape, old.sharding, lambda part: new[part]),
        whole,
        state["params"],
    )
    ema = jax.jit(load.averaged, out_shardings=sharding.of(run.abstract["ema"]))(params)
    return {**state, "params": params, "ema": ema}


def make_step(run: Run, tx: optax.GradientTransformation, experiment: Experiment) -> Step:
    """Returns the jitted training step, which donates the state.

    The rows of a batch are sharded over the mesh, the state as `run.abstract` is. To be called under `jax.set_mesh`.
    """
    parts, text_weight = experiment.training.accumulate, experiment.prompts.text_weight

    def step_fn(state: State, examples: Examples) -> tuple[State, dict[str, jax.Array]]:
        # The key depends on seed and step alone, so that a resumed run draws the same dropout.
        key = jax.random.fold_in(state["key"], state["step"])
        sums = _sum_gradients(run.graphdef, state["params"], examples, key, parts, text_weight)
        targets = (examples.target_segments > 0).sum()
        gradients, losses = jax.tree.map(lambda total: total / targets, sums)
        updates, optimizer_state = tx.update(gradients, state["optimizer"], state["params"])
        params = optimizer.apply_updates(state["params"], updates, jax.random.fold_in(key, parts))
        # At first the average follows the weights more closely, so that it forgets the initialization.
        decay = jnp.minimum(experiment.training.ema, (1 + state["step"]) / (10 + state["step"]))
        new_state = {
            "params": params,
            "ema": jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state["ema"], params),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
            "key": state["key"],
        }
        loss = losses.per_level.sum()
        metrics = {
            # Of plain batches the same sum: in another order it would be another number.
            "objective": loss if examples.weights is None and examples.texts is None else losses.objective,
            "loss": loss,
            "loss_per_level": losses.per_level,
            "gradient_norm": optax.tree.norm(gradients),
            "targets": targets,
            "encoder_tokens": (examples.histories.segments > 0).sum(),
        }
        if examples.texts is not None:
            metrics["text_loss"] = sums[1].text / (examples.texts.pieces >= 0).sum()
        return new_state, metrics

    state_shardings, replicated = sharding.of(run.abstract), sharding.named(run.mesh)
    return jax.jit(
        step_fn,
        donate_argnums=0,
        in_shardings=(state_shardings, sharding.named(run.mesh, "batch")),
        out_shardings=(state_shardings, replicated),
    )


def _sum_gradients(
    graphdef: nnx.GraphDef, params: nnx.State, examples: Examples, key: jax.Array, parts: int, text_weight: float
) -> Sums:
    """Returns the gradients and losses of a batch, summed over its targets, one of `parts` parts after another."""

    def add_part(sums: Sums, part: tuple[jax.Array, Examples]) -> tuple[Sums, None]:
        number, examples = part
        own_key = jax.random.fold_in(key, number)
        gradients = jax.grad(_loss, has_aux=True)(params, graphdef, examples, own_key, text_weight)
        return jax.tree.map(jnp.add, sums, gradients), None

    zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), params)
    # Part p takes the rows p, p + parts, ...: each device splits its own rows, and none moves.
    split = jax.tree.map(
        lambda x: sharding.constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), examples
    )
    no_losses = Losses(jnp.zeros(()), jnp.zeros(examples.targets.shape[-1]), jnp.zeros(()))
    return jax.lax.scan(add_part, (zeros, no_losses), (jnp.arange(parts), split))[0]


def _loss(
    params: nnx.State, graphdef: nnx.GraphDef, examples: Examples, key: jax.Array, text_weight: float
) -> tuple[jax.Array, Losses]:
    """Returns the objective, and all losses for the metrics."""
    model = nnx.merge(graphdef, params)
    losses = model.losses(examples, key)
    is_target = (examples.target_segments > 0)[..., None]
    per_level = jnp.where(is_target, losses, 0).sum((0, 1))
    total = per_level.sum()
    if examples.weights is not None:
        total = jnp.where(is_target, losses * examples.weights[..., None], 0).sum()
    text = jnp.zeros(())
    if examples.texts is not None:
        text = model.text_losses(examples.texts, jax.random.fold_in(key, 1)).sum()
    objective = total + text_weight * text
    return objective, Losses(objective, per_level, text)
