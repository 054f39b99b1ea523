"""Checkpoints of a training run: everything Orbax, behind one module.

`checkpoints/STEP/` holds five items, written together or not at all: `ema`, the averaged parameters that are evaluated
and served; `training`, the arrays that a resumed run needs besides (parameters, optimizer, step, random key); `data`,
where the input stands; `record`, what the run is (model, semantic IDs, dataset) and how far it came; `sums`, of the
bits of all arrays, by which damage is found.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers

from genrec import config, distributed, sharding
from genrec.artifacts import ArtifactError
from genrec.data.context import Context, Users
from genrec.data.examples import NO_USERS, Tokens
from genrec.data.tasks import TEXT_KINDS
from genrec.data.vocabulary import Vocabulary
from genrec.models.recommender import Prompts, Recommender
from genrec.models.sequential import Sequential
from genrec.semantic_ids.codes import SemanticIds

FOLDER = "checkpoints"
SASREC = "sasrec"  # folder of a work directory in which the baseline has its own checkpoints and logs
UNREADABLE = "unreadable_checkpoints"  # where newer ones go when a run goes on from an older one
# Settings that a resumed run may change: they decide how it runs and what it keeps, not what it computes.
CHANGEABLE = (
    "model.remat",
    "training.accumulate",
    "training.checkpoint_every",
    "training.keep_best",
    "training.keep_latest",
    "training.log_every",
    "training.peak_flops",
    "training.profile_steps",
    "training.stop_after",
)
NOT_VALIDATED = -1.0  # the metric of a checkpoint that was saved without a validation: worse than any
SUMS = "sums"  # the item of a checkpoint
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
    context: dict[str, Any] = dataclasses.field(default_factory=dict)  # data.context.Context
    # config.Wishes; "model", the vocabulary of words; "trained", its pieces that training has; "rows", where a language
    # model has more of them. Empty where the model knows no words.
    wishes: dict[str, Any] = dataclasses.field(default_factory=dict)
    dropped: dict[str, float] = dataclasses.field(default_factory=dict)  # how often context is left out in training
    kind: str = "generator"  # or "sasrec", which has one level: the items of the catalogue, and no semantic IDs
    validated: int = 0  # the last step that was validated
    validations_without_best: int = 0
    finished: bool = False

    @classmethod
    def of(cls, experiment: config.Experiment, sizes: tuple[int, ...], semantic_ids: str, dataset: str) -> "Record":
        """The record of a run that starts; `semantic_ids` and `dataset` are fingerprints."""
        return cls(
            model=dataclasses.asdict(experiment.model),
            training=dataclasses.asdict(experiment.training),
            validation={"beams": max(experiment.evaluation.beams, experiment.evaluation.max_beams)},
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

    @property
    def prompts(self) -> Prompts:
        """What the model reads and writes beside users and items."""
        pieces = self.wishes.get("rows", len(self.vocabulary)) if self.wishes else 0
        return Prompts(Context.from_json(self.context), pieces, TEXT_KINDS if self.wishes.get("texts") else 0)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Of wishes and texts; None where the model knows none."""
        return Vocabulary.from_text(self.wishes["model"]) if self.wishes else None

    def tokens(self, semantic_ids: SemanticIds, known: Users = NO_USERS) -> Tokens:
        """How this model's users and items become tokens; `known` is what it is told of users (models.known_users)."""
        words, longest, trained = self.vocabulary, self.wishes.get("longest", 0), None
        if "trained" in self.wishes:
            trained = np.zeros(len(words), bool)
            trained[self.wishes["trained"]] = True
        numbers = semantic_ids.vocabulary, self.model["user_tokens"]
        return Tokens(semantic_ids.tokens(), *numbers, known, words, longest, trained)

    def differences(self, other: "Record") -> list[str]:
        """Why a run described by `other` cannot go on from this checkpoint."""

        def flat(record: Record) -> dict[str, Any]:
            fields = dataclasses.asdict(record)
            for progress in ("validated", "validations_without_best", "finished"):
                del fields[progress]
            nested = {name: fields.pop(name) for name in ("model", "training", "validation", "wishes", "dropped")}
            for name, values in nested.items():
                fields |= {f"{name}.{key}": value for key, value in values.items()}
            return {name: value for name, value in fields.items() if name not in CHANGEABLE}

        mine, theirs = flat(self), flat(other)
        names = sorted(mine.keys() | theirs.keys())
        return [
            f"{name} was {mine.get(name)!s:.200}, is {theirs.get(name)!s:.200}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]


class Resumed(NamedTuple):
    """Where a run goes on."""

    step: int
    record: Record
    state: dict[str, Any] | None  # None where the record says that the run is finished
    data: dict[str, Any]  # as given to `Checkpoints.save`


class UnreadableCheckpointError(ArtifactError):
    """A checkpoint that is damaged, still being written, or already being deleted."""


def steps(workdir: epath.PathLike) -> list[int]:
    """Of the checkpoints that a work directory holds now, ascending; empty where there are none yet.

    What is still being written is not among them where it has a temporary name, as with all that Orbax writes.
    """
    folder = epath.Path(workdir) / FOLDER
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


class Checkpoints:
    """The checkpoints of one work directory; keeps the latest and the best by the run's `best_metric`."""

    def __init__(self, workdir: epath.PathLike, keep_best: int = 1, keep_latest: int = 2):
        workdir = epath.Path(workdir)
        self._workdir = workdir if "://" in str(workdir) else workdir.resolve()  # Orbax wants an absolute path

        def metric(metrics: Mapping[str, float]) -> float:
            return metrics[BEST]

        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep_latest),
                checkpoint_managers.BestN(get_metric_fn=metric, n=keep_best),
            ]
        )
        # Without best_fn Orbax would not store the metric.
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, best_fn=metric)
        items = ("ema", "training", "data", "record", SUMS)
        self.manager = ocp.CheckpointManager(self._workdir / FOLDER, options=options, item_names=items)
        # Every process reads by itself and waits for no other: one that finds its part damaged can then say so.
        myself = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=myself, active_processes={myself}, barrier_sync_key_prefix=f"process_{myself}"
        )
        self._reader = ocp.CheckpointManager(
            self._workdir / FOLDER,
            options=ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone),
            item_names=items,
        )

    @property
    def steps(self) -> list[int]:
        """Of all finished checkpoints, in ascending order."""
        return sorted(self.manager.all_steps())

    def best(self) -> tuple[int, float] | None:
        """Step and metric of the best validated checkpoint (the earliest of equals); None when there is none."""
        self.manager.wait_until_finished()  # a checkpoint that is still being written has no metric yet
        scored = [(self.manager.metrics(step)[BEST], -step) for step in self.steps]
        value, negative_step = max(scored, default=(NOT_VALIDATED, 0))
        return None if value == NOT_VALIDATED else (-negative_step, value)

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        data: Mapping[str, Any],
        record: Record,
        metric: float = NOT_VALIDATED,
    ) -> None:
        """Saves in the background; returns when the arrays may be changed. Replaces a checkpoint of the same step.

        `data` is JSON, where the input stands; `metric` the value of `best_metric`.
        """
        items = ocp.args.Composite(
            ema=ocp.args.StandardSave(state["ema"]),
            training=ocp.args.StandardSave(_without_ema(state)),
            data=ocp.args.JsonSave(dict(data)),
            record=ocp.args.JsonSave(dataclasses.asdict(record)),
            sums=ocp.args.JsonSave(_sums(state)),
        )
        self.manager.wait_until_finished()
        if step in self.manager.all_steps():
            self.manager.delete(step)
        self.manager.save(step, args=items, metrics={BEST: float(metric)}, force=True)

    def record(self, step: int) -> Record:
        fields = self._read(step, record=ocp.args.JsonRestore()).record
        unknown = fields.keys() - {field.name for field in dataclasses.fields(Record)}
        if unknown:
            raise ArtifactError(
                f"{self._workdir / FOLDER}/{step}: written by another version of genrec (it knows {sorted(unknown)}). "
                "Use that version, or train again in a new --workdir."
            )
        return Record(**fields)

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        """Some items of a checkpoint, by their names."""
        return self._reader.restore(step, args=ocp.args.Composite(**items))

    def resume(self, record: Record, abstract: Mapping[str, Any]) -> Resumed | None:
        """The newest checkpoint that can be read; None when there is no checkpoint.

        `record` describes the run that wants to go on; `abstract` is its state as abstract arrays, with the shardings
        that it shall have. Newer checkpoints that cannot be read are put aside, into WORKDIR/unreadable_checkpoints.

        Raises ArtifactError when the checkpoint belongs to another run, or when none can be read.
        """
        unreadable: list[int] = []
        for step in reversed(self.steps):
            error = None
            try:
                resumed, sums = self._resume(step, record, abstract)
            except ArtifactError:
                raise
            except Exception as problem:  # whatever Orbax and the file system say of missing or broken files
                error = problem
            # Only when every process has read its part can they sum up together.
            if distributed.everywhere(error is None):
                if resumed.state is None or _sums(resumed.state) == sums:
                    self._put_aside(unreadable)
                    return resumed
                error = ValueError("the arrays are not those that were saved")
            unreadable.append(step)
            logging.warning(
                "checkpoint %d cannot be read: %.300s", step, repr(error) if error else "by another process"
            )
        if unreadable:
            raise ArtifactError(
                f"{self._workdir / FOLDER}: none of the checkpoints {unreadable} can be read; see the warnings above. "
                "Repair what hinders it, or move the folder away to start anew."
            )
        return None

    def _resume(
        self, step: int, record: Record, abstract: Mapping[str, Any]
    ) -> tuple[Resumed, dict[str, list[int]] | None]:
        """What one checkpoint holds, and the sums of its arrays as they were saved."""
        earlier = self.record(step)
        if differences := earlier.differences(record):
            raise ArtifactError(
                f"{self._workdir / FOLDER}: the checkpoints are of another run: {'; '.join(differences)}. "
                "Undo the change, choose another --workdir, or delete the checkpoints."
            )
        going_on = dataclasses.replace(
            record,
            validated=earlier.validated,
            validations_without_best=earlier.validations_without_best,
            finished=earlier.finished,
        )
        if earlier.finished:
            return Resumed(step, going_on, None, {}), None
        restored = self._read(
            step,
            ema=ocp.args.StandardRestore(abstract["ema"]),
            training=ocp.args.StandardRestore(_without_ema(abstract)),
            data=ocp.args.JsonRestore(),
            sums=ocp.args.JsonRestore(),
        )
        state = {**restored.training, "ema": restored.ema}
        return Resumed(step, going_on, state, restored.data), restored.sums

    def _put_aside(self, steps: list[int]) -> None:
        """Moves checkpoints out of the way of new ones of the same steps; nothing is deleted."""
        if not steps:
            return

        def move() -> None:
            for step in steps:
                target = self._workdir / UNREADABLE / str(step)
                while target.exists():
                    target = target.with_name(f"{target.name}_")
                target.parent.mkdir(exist_ok=True)
                (self._workdir / FOLDER / str(step)).rename(target)
                logging.warning("moved it to %s; going on from the checkpoint before", target)

        distributed.on_first(move)
        self.manager.reload()

    def restore_ema(self, step: int, ema: nnx.State) -> nnx.State:
        """The averaged parameters, in the shapes and shardings of abstract arrays.

        Raises ArtifactError when they are not those that were saved.
        """
        restored = self._read(step, ema=ocp.args.StandardRestore(ema), sums=ocp.args.JsonRestore())
        if _sums({"ema": restored.ema})["ema"] != restored.sums["ema"]:
            raise UnreadableCheckpointError(f"{self._workdir / FOLDER}/{step}: is damaged. Choose another checkpoint.")
        return restored.ema

    def close(self) -> None:
        """Waits for saves in the background."""
        self.manager.wait_until_finished()
        self.manager.close()
        self._reader.close()


def _without_ema(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "ema"}


def fingerprint(params: nnx.State) -> str:
    """Of parameters: the same on every mesh; one wrong bit shows."""
    return hashlib.blake2b(json.dumps(_sums({"ema": params})).encode(), digest_size=8).hexdigest()


@jax.jit
def _bit_sums(arrays: list[jax.Array]) -> list[jax.Array]:
    unsigned = {1: "uint8", 2: "uint16", 4: "uint32"}
    bits = [jax.lax.bitcast_convert_type(x, unsigned[x.dtype.itemsize]) for x in arrays]
    return [jax.numpy.sum(x.astype("uint32"), dtype="uint32") for x in bits]


def _sums(state: Mapping[str, Any]) -> dict[str, list[int]]:
    """For each part of a state, the sums of the bits of its arrays: the same on every mesh; one wrong bit shows."""

    def of(part: Any) -> list[int]:
        arrays = [
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in jax.tree.leaves(part)
        ]
        return [int(x) for x in jax.device_get(_bit_sums(arrays))]

    return {name: of(part) for name, part in state.items()}


def model_of(record: Record) -> tuple[nnx.GraphDef, Callable[[], nnx.State]]:
    """Structure of the model that a record describes, and a function that makes its initial parameters.

    Raises ConfigError for dtypes that do not exist.
    """
    cfg = config.Model(**record.model)
    for name in ("compute", "parameters"):
        if (value := getattr(cfg, name)) not in ("float32", "bfloat16"):
            raise config.ConfigError(f"model.{name}={value!r}: choose float32 or bfloat16")

    prompts = record.prompts

    def model() -> Recommender | Sequential:
        if record.kind == "sasrec":
            return Sequential(cfg, record.sizes[0], nnx.Rngs(record.seed))
        return Recommender(cfg, tuple(record.sizes), nnx.Rngs(record.seed), prompts)

    def parameters() -> nnx.State:
        return jax.tree.map(lambda x: x.astype(cfg.parameters), nnx.state(model()))

    return nnx.graphdef(nnx.eval_shape(model)), parameters


def averaged(params: nnx.State) -> nnx.State:
    """What the average of parameters starts as. Always float32: the small steps of an average need it."""
    return jax.tree.map(lambda x: x.astype("float32"), params)


class SavedModel(NamedTuple):
    graphdef: nnx.GraphDef
    params: nnx.State  # the averaged parameters
    record: Record
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
