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

State = dict[str, Any]  # params, ema, optimizer, step: int32[], key: a random key that never changes


class Run(NamedTuple):
    """What does not change while a model is trained."""

    graphdef: nnx.GraphDef
    initialize: Callable[[], State]  # the state before the first step; to be called under `jax.jit`
    abstract: State  # that state as abstract arrays with shardings
    mesh: Mesh


def describe(record: run_record.RunRecord, tx: optax.GradientTransformation, mesh: Mesh) -> Run:
    """The run of a record on a mesh. Makes no array.

    Raises ConfigError when the mesh cannot cut the model's layers into equal parts.
    """
    sizes = {"embed": "model.width", "mlp": "model.mlp", "heads": "model.heads"}
    for name, field in sizes.items():
        size, cut = record.model[field.removeprefix("model.")], sharding.parts(mesh, name)
        if size % cut:
            raise ConfigError(
                f"{field}={size} cannot be cut into the {cut} equal parts that mesh.{sharding.RULES[name]} asks for"
            )
    graphdef, parameters = load.model_of(record)

    def initialize() -> State:
        params = parameters()
        return {
            "params": params,
            "ema": load.averaged(params),
            "optimizer": tx.init(params),
            "step": jnp.zeros((), jnp.int32),
            "key": jax.random.key(record.seed),
        }

    abstract = sharding.with_shardings(jax.eval_shape(initialize), mesh)
    return Run(graphdef, initialize, abstract, mesh)


def start(run: Run, begin: Callable[[Recommender], None] | None = None) -> State:
    """The state before the first step, each device making its own part; `begin` changes the whole model first."""
    state = jax.jit(run.initialize, out_shardings=sharding.of(run.abstract))()
    if begin is None:
        return state
    model = nnx.merge(run.graphdef, jax.tree.map(lambda x: jnp.asarray(sharding.fetch(x)), state["params"]))
    begin(model)
    # Where processes computed with other libraries, they may have found something else.
    whole = distributed.of_first(jax.device_get(nnx.state(model)))
    params = jax.tree.map(
        lambda new, old: jax.make_array_from_callback(old.shape, old.sharding, lambda part: new[part]),
        whole,
        state["params"],
    )
    ema = jax.jit(load.averaged, out_shardings=sharding.of(run.abstract["ema"]))(params)
    return {**state, "params": params, "ema": ema}


def make_step(
    run: Run, tx: optax.GradientTransformation, experiment: Experiment
) -> Callable[[State, Examples], tuple[State, dict[str, jax.Array]]]:
    """The jitted training step; it takes over the memory of the state that it is given.

    The rows of a batch are cut over the mesh, the state is laid out as `run.abstract` is. To be called with that mesh
    set (`jax.set_mesh`).
    """
    parts, text_weight = experiment.training.accumulate, experiment.prompts.text_weight

    def step_fn(state: State, examples: Examples) -> tuple[State, dict[str, jax.Array]]:
        # The key depends on nothing but seed and step, so that a resumed run draws the same dropout.
        key = jax.random.fold_in(state["key"], state["step"])

        def add_up(sums: tuple, part: tuple[jax.Array, Examples]) -> tuple[tuple, None]:
            """Adds the losses and gradients of one part of the batch."""
            number, examples = part

            def loss_fn(params: nnx.State) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
                model, own_key = nnx.merge(run.graphdef, params), jax.random.fold_in(key, number)
                losses = model.losses(examples, own_key)
                there = (examples.target_segments > 0)[..., None]
                per_level = jnp.where(there, losses, 0).sum((0, 1))
                total = per_level.sum()
                if examples.weights is not None:
                    total = jnp.where(there, losses * examples.weights[..., None], 0).sum()
                texts = jnp.zeros(())
                if examples.texts is not None:
                    texts = model.text_losses(examples.texts, jax.random.fold_in(own_key, 1)).sum()
                return total + text_weight * texts, (per_level, texts)

            gradients, losses = jax.grad(loss_fn, has_aux=True)(state["params"])
            return jax.tree.map(jnp.add, sums, (gradients, losses)), None

        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), state["params"])
        # Part p takes the rows p, p + parts, ...: each device splits its own rows, and none moves.
        split = jax.tree.map(
            lambda x: sharding.constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), examples
        )
        no_losses = jnp.zeros(examples.targets.shape[-1])
        zeros = zeros, (no_losses, jnp.zeros(()))
        sums, _ = jax.lax.scan(add_up, zeros, (jnp.arange(parts), split))
        targets = (examples.target_segments > 0).sum()
        gradients, (per_level, _) = jax.tree.map(lambda total: total / targets, sums)
        updates, optimizer_state = tx.update(gradients, state["optimizer"], state["params"])
        params = optimizer.apply_updates(state["params"], updates, jax.random.fold_in(key, parts))
        # Early on the average follows the weights more closely, so that it forgets the initialization.
        decay = jnp.minimum(experiment.training.ema, (1 + state["step"]) / (10 + state["step"]))
        new_state = {
            "params": params,
            "ema": jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state["ema"], params),
            "optimizer": optimizer_state,
            "step": state["step"] + 1,
            "key": state["key"],
        }
        metrics = {
            "loss": per_level.sum(),
            "loss_per_level": per_level,
            "gradient_norm": optax.tree.norm(gradients),
            "targets": targets,
            "encoder_tokens": (examples.histories.segments > 0).sum(),
        }
        if examples.texts is not None:
            metrics["text_loss"] = sums[1][1] / (examples.texts.pieces >= 0).sum()
        return new_state, metrics

    state_shardings, replicated = sharding.of(run.abstract), sharding.named(run.mesh)
    return jax.jit(
        step_fn,
        donate_argnums=0,
        in_shardings=(state_shardings, sharding.named(run.mesh, "batch")),
        out_shardings=(state_shardings, replicated),
    )
