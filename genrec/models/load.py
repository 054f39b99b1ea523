"""Models of checkpoints: structure and parameters."""

import dataclasses
import functools
import json
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import jax
from absl import logging
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import config, sharding
from genrec.artifacts import ArtifactError
from genrec.models.checkpoints import FOLDER, Checkpoints, UnreadableCheckpointError
from genrec.models.recommender import Recommender
from genrec.models.run_record import RunRecord
from genrec.models.sasrec import SASRec


class Structure(NamedTuple):
    """The structure of a model, without its arrays."""

    graphdef: nnx.GraphDef
    initialize: Callable[[], nnx.State]  # returns the initial parameters
    abstract: nnx.State  # these parameters as abstract arrays


def model_of(record: RunRecord) -> Structure:
    """Returns the structure of a record's model.

    Raises ConfigError for dtypes other than float32 and bfloat16.
    """
    for name in ("compute", "parameters"):
        if (value := record.model[name]) not in ("float32", "bfloat16"):
            raise config.ConfigError(f"model.{name}={value!r}: choose float32 or bfloat16")
    of_any_step = dataclasses.replace(record, validated=0, validations_without_best=0, finished=False)
    return _structure(json.dumps(dataclasses.asdict(of_any_step)))


@functools.lru_cache(maxsize=8)  # tracing takes up to a second, and stages of one process ask for the same model
def _structure(record_json: str) -> Structure:
    record = RunRecord(**json.loads(record_json))
    cfg = (config.SasRecModel if record.kind == "sasrec" else config.Model)(**record.model)
    conditioning = record.conditioning

    def model() -> Recommender | SASRec:
        if isinstance(cfg, config.SasRecModel):
            return SASRec(cfg, record.sizes[0], nnx.Rngs(record.seed), record.max_history, record.causal)
        return Recommender(cfg, tuple(record.sizes), nnx.Rngs(record.seed), conditioning)

    def stored(params: nnx.State) -> nnx.State:
        return jax.tree.map(lambda x: x.astype(cfg.parameters), params)

    graphdef, abstract = nnx.split(nnx.eval_shape(model))
    return Structure(graphdef, lambda: stored(nnx.state(model())), jax.eval_shape(stored, abstract))


def averaged(params: nnx.State) -> nnx.State:
    """Returns the initial moving average of parameters, in float32: bfloat16 would lose its small steps."""
    return jax.tree.map(lambda x: x.astype("float32"), params)


class SavedModel(NamedTuple):
    """The model of a checkpoint."""

    graphdef: nnx.GraphDef
    params: nnx.State  # the averaged parameters
    record: RunRecord
    step: int


def _step(checkpoints: Checkpoints, folder: epath.Path, which: str) -> int:
    """Returns the step of `which`; for errors see `load`."""
    steps = checkpoints.steps
    if checkpoints.incomplete:
        logging.warning("%s: ignoring checkpoints that lack files: %s", folder, checkpoints.incomplete)
    if which.isdigit():
        if int(which) not in steps:
            raise UnreadableCheckpointError(
                f"{folder}: no complete checkpoint {which}. Choose best, latest or one of {steps}, or try again if it "
                "is still being written."
            )
        return int(which)
    if not steps:
        raise ArtifactError(f"{folder}: no finished checkpoint. Run launch/train.py again, which resumes the run.")
    if which == "best":
        # A run that was preempted before its first validation has checkpoints, but no best one yet.
        return (checkpoints.best() or (max(steps),))[0]
    if which == "latest":
        return max(steps)
    raise ArtifactError(f"{folder}: no checkpoint {which!r}. Choose best, latest or one of {steps}.")


def load(workdir: epath.PathLike, which: str = "best", mesh: Mesh | None = None) -> SavedModel:
    """Loads a model of a work directory: the "best" (by the validation metric), the "latest", or that of a step.

    The parameters are sharded over `mesh`, by default one device. Raises ArtifactError when there is no such
    checkpoint, and UnreadableCheckpointError when it is damaged, incomplete or deleted meanwhile.
    """
    folder = epath.Path(workdir) / FOLDER
    if not folder.exists():
        raise ArtifactError(f"{folder}: no checkpoints here. Train first: launch/train.py or launch/run.py.")
    try:
        checkpoints = Checkpoints(workdir)
        with closing(checkpoints):
            step = _step(checkpoints, folder, which)
            record = checkpoints.record(step)
            structure = model_of(record)
            abstract = jax.eval_shape(averaged, structure.abstract)
            params = checkpoints.restore_ema(step, sharding.with_shardings(abstract, mesh or sharding.one_device()))
    except (ArtifactError, config.ConfigError):
        raise
    except Exception as problem:  # Orbax and file systems raise any type for missing or broken files
        raise UnreadableCheckpointError(
            f"{folder}: checkpoint {which} cannot be read: it is damaged or incomplete ({problem!r:.200}). Choose "
            "another checkpoint, or try again when it is complete."
        ) from problem
    return SavedModel(structure.graphdef, params, record, step)
