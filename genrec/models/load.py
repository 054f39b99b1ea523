"""Models of checkpoints: structure and parameters, ready to compute."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import config, sharding
from genrec.artifacts import ArtifactError
from genrec.models.checkpoints import FOLDER, Checkpoints, UnreadableCheckpointError
from genrec.models.recommender import Recommender
from genrec.models.run_record import RunRecord
from genrec.models.sasrec import Sequential


def model_of(record: RunRecord) -> tuple[nnx.GraphDef, Callable[[], nnx.State]]:
    """Structure of the model that a record describes, and a function that makes its initial parameters.

    Raises ConfigError for dtypes that do not exist.
    """
    cfg = config.Model(**record.model)
    for name in ("compute", "parameters"):
        if (value := getattr(cfg, name)) not in ("float32", "bfloat16"):
            raise config.ConfigError(f"model.{name}={value!r}: choose float32 or bfloat16")

    conditioning = record.conditioning

    def model() -> Recommender | Sequential:
        if record.kind == "sasrec":
            return Sequential(cfg, record.sizes[0], nnx.Rngs(record.seed))
        return Recommender(cfg, tuple(record.sizes), nnx.Rngs(record.seed), conditioning)

    def parameters() -> nnx.State:
        return jax.tree.map(lambda x: x.astype(cfg.parameters), nnx.state(model()))

    return nnx.graphdef(nnx.eval_shape(model)), parameters


def averaged(params: nnx.State) -> nnx.State:
    """What the average of parameters starts as. Always float32: the small steps of an average need it."""
    return jax.tree.map(lambda x: x.astype("float32"), params)


class SavedModel(NamedTuple):
    graphdef: nnx.GraphDef
    params: nnx.State  # the averaged parameters
    record: RunRecord
    step: int


def load(workdir: epath.PathLike, which: str = "best", mesh: Mesh | None = None) -> SavedModel:
    """The model of a work directory: `which` is "best" (by the validation metric), "latest", or a step.

    Its parameters are put on the devices of `mesh`, by default one device.

    Raises ArtifactError when there is no such checkpoint.
    """
    folder = epath.Path(workdir) / FOLDER
    if not folder.exists():
        raise ArtifactError(
            f"{folder}: no checkpoints here. Train first: launch/train.py (launch/run.py runs all stages)."
        )
    checkpoints = Checkpoints(workdir)
    try:
        steps = checkpoints.steps
        if not steps:
            raise ArtifactError(
                f"{folder}: no finished checkpoint. Run launch/train.py again, it goes on where it stopped."
            )
        if which == "best":
            # A run that was preempted before its first validation has checkpoints, but no best one yet.
            step = (checkpoints.best() or (max(steps),))[0]
        elif which == "latest":
            step = max(steps)
        elif which.isdigit() and int(which) in steps:
            step = int(which)
        else:
            raise ArtifactError(f"{folder}: no checkpoint {which!r}. Choose best, latest or one of {steps}.")
        try:
            record = checkpoints.record(step)
            graphdef, parameters = model_of(record)
            abstract = jax.eval_shape(lambda: averaged(parameters()))
            params = checkpoints.restore_ema(step, sharding.with_shardings(abstract, mesh or sharding.one_device()))
        except (ArtifactError, config.ConfigError):
            raise
        except Exception as problem:  # whatever Orbax and the file system say of missing or broken files
            raise UnreadableCheckpointError(
                f"{folder}/{step}: cannot be read: it is damaged or not yet whole ({problem!r:.200}). Choose another "
                "checkpoint, or try again when it is whole."
            ) from problem
    finally:
        checkpoints.close()
    return SavedModel(graphdef, params, record, step)
