"""Checkpoints of a training run: everything Orbax, behind one module.

`checkpoints/STEP/` holds three items: `ema`, the averaged parameters that are evaluated and served; `training`, what a
resumed run needs besides; `record`, what the run is (model, semantic IDs, dataset) and how far it came.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from genrec import config
from genrec.artifacts import ArtifactError
from genrec.data.examples import Tokens
from genrec.models.recommender import Recommender
from genrec.semantic_ids.codes import SemanticIds

FOLDER = "checkpoints"
CHANGEABLE = ("training.stop_after", "training.log_every")  # settings that a resumed run may change
BEST = "best_metric"  # the name under which Orbax keeps the metric that ranks checkpoints


@dataclasses.dataclass
class Record:
    """What a checkpoint says of its run."""

    model: dict[str, Any]  # config.Model
    training: dict[str, Any]  # config.Training
    validation: dict[str, Any]  # `beams`: metrics of other beams do not compare
    sizes: list[int]  # codes per level
    semantic_ids: str  # fingerprint
    dataset: str  # fingerprint
    seed: int
    validations_without_best: int = 0
    finished: bool = False

    @classmethod
    def of(cls, experiment: config.Experiment, sizes: tuple[int, ...], semantic_ids: str, dataset: str) -> "Record":
        """The record of a run that starts; `semantic_ids` and `dataset` are fingerprints."""
        return cls(
            model=dataclasses.asdict(experiment.model),
            training=dataclasses.asdict(experiment.training),
            validation={"beams": experiment.evaluation.beams},
            sizes=list(sizes),
            semantic_ids=semantic_ids,
            dataset=dataset,
            seed=experiment.seed,
        )

    @property
    def max_history(self) -> int:
        return self.training["max_history"]

    @property
    def causal(self) -> bool:
        """Whether encoder inputs are causal between items (`data.examples`)."""
        return self.training["targets"] == "every"

    def tokens(self, semantic_ids: SemanticIds) -> Tokens:
        """How this model's users and items become tokens: user tokens come after those of the semantic IDs."""
        return Tokens(semantic_ids.tokens(), semantic_ids.vocabulary, self.model["user_tokens"])

    def differences(self, other: "Record") -> list[str]:
        """Why a run described by `other` cannot go on from this checkpoint."""

        def flat(record: Record) -> dict[str, Any]:
            fields = dataclasses.asdict(record)
            for progress in ("validations_without_best", "finished"):
                del fields[progress]
            nested = {name: fields.pop(name) for name in ("model", "training", "validation")}
            for name, values in nested.items():
                fields |= {f"{name}.{key}": value for key, value in values.items()}
            return {name: value for name, value in fields.items() if name not in CHANGEABLE}

        mine, theirs = flat(self), flat(other)
        names = sorted(mine.keys() | theirs.keys())
        return [
            f"{name} was {mine.get(name)}, is {theirs.get(name)}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]


class Checkpoints:
    """The checkpoints of one work directory; keeps the latest and the best by the run's `best_metric`."""

    def __init__(self, workdir: epath.PathLike):
        def metric(metrics: Mapping[str, float]) -> float:
            return metrics[BEST]

        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(get_metric_fn=metric, n=1),
            ]
        )
        self.manager = ocp.CheckpointManager(
            epath.Path(workdir).resolve() / FOLDER,
            # Without best_fn Orbax would not store the metric.
            options=ocp.CheckpointManagerOptions(preservation_policy=policy, best_fn=metric),
            item_names=("ema", "training", "record"),
        )

    @property
    def latest_step(self) -> int | None:
        return self.manager.latest_step()

    def best(self) -> tuple[int, float] | None:
        """Step and metric of the best checkpoint (the earliest of equals); None when there is none."""
        self.manager.wait_until_finished()  # a checkpoint that is still being written has no metric yet
        scored = [(self.manager.metrics(step)[BEST], -step) for step in self.manager.all_steps()]
        if not scored:
            return None
        value, negative_step = max(scored)
        return -negative_step, value

    def save(self, step: int, state: Mapping[str, Any], record: Record, metric: float) -> None:
        """Saves in the background, with the value of `best_metric`; returns when the arrays may be changed."""
        items = ocp.args.Composite(
            ema=ocp.args.StandardSave(state["ema"]),
            training=ocp.args.StandardSave(_without_ema(state)),
            record=ocp.args.JsonSave(dataclasses.asdict(record)),
        )
        self.manager.save(step, args=items, metrics={BEST: float(metric)})

    def record(self, step: int) -> Record:
        restored = self.manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))
        return Record(**restored.record)

    def restore(self, step: int, state: Mapping[str, Any]) -> dict[str, Any]:
        """The training state of a step, in the shapes of `state` (arrays or their abstract values)."""
        items = ocp.args.Composite(
            ema=ocp.args.StandardRestore(state["ema"]), training=ocp.args.StandardRestore(_without_ema(state))
        )
        restored = self.manager.restore(step, args=items)
        return {**restored.training, "ema": restored.ema}

    def restore_ema(self, step: int, ema: nnx.State) -> nnx.State:
        return self.manager.restore(step, args=ocp.args.Composite(ema=ocp.args.StandardRestore(ema))).ema

    def close(self) -> None:
        """Waits for saves in the background."""
        self.manager.wait_until_finished()
        self.manager.close()


def _without_ema(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "ema"}


def create(record: Record) -> tuple[nnx.GraphDef, nnx.State]:
    """Structure and freshly initialised parameters of the model that a record describes."""

    def model() -> Recommender:
        return Recommender(config.Model(**record.model), tuple(record.sizes), nnx.Rngs(record.seed))

    return nnx.graphdef(nnx.eval_shape(model)), jax.jit(lambda: nnx.state(model()))()


class SavedModel(NamedTuple):
    graphdef: nnx.GraphDef
    params: nnx.State  # the averaged parameters
    record: Record
    step: int


def load(workdir: epath.PathLike, which: str = "best") -> SavedModel:
    """The model of a work directory: `which` is "best" (by the validation metric), "latest", or a step.

    Raises ArtifactError when there is no such checkpoint.
    """
    folder = epath.Path(workdir) / FOLDER
    if not folder.exists():
        raise ArtifactError(
            f"{folder}: no checkpoints here. Train first: launch/train.py (launch/run.py runs all stages)."
        )
    steps = ocp.utils.checkpoint_steps(folder)
    if not steps:
        raise ArtifactError(
            f"{folder}: no finished checkpoint. Run launch/train.py again, it goes on where it stopped."
        )
    checkpoints = Checkpoints(workdir)
    try:
        if which == "best":
            step = checkpoints.best()[0]
        elif which == "latest":
            step = max(steps)
        elif which.isdigit() and int(which) in steps:
            step = int(which)
        else:
            raise ArtifactError(f"{folder}: no checkpoint {which!r}. Choose best, latest or one of {sorted(steps)}.")
        record = checkpoints.record(step)
        graphdef, params = create(record)
        params = checkpoints.restore_ema(step, params)
    finally:
        checkpoints.close()
    return SavedModel(graphdef, params, record, step)
