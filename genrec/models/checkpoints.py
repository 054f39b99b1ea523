"""Checkpoints of a training run, on Orbax, which no other module uses.

`checkpoints/STEP/` holds five items, written atomically: `ema`, the averaged parameters, which are evaluated and
served; `training`, the other arrays that a resumed run needs (parameters, optimizer, step, random key); `data`, the
position of the input pipeline; `record`, the run record; `sums`, checksums of all arrays, which detect damage.
"""

import dataclasses
import hashlib
import json
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from genrec import artifacts, distributed
from genrec.artifacts import ArtifactError
from genrec.models.run_record import RunRecord

FOLDER = "checkpoints"
SASREC = "sasrec"  # folder of a work directory with checkpoints and logs of the baseline
UNREADABLE = "unreadable_checkpoints"  # folder for damaged checkpoints, when a run resumes from an older one
NOT_VALIDATED = -1.0  # the metric of a checkpoint without validation: worse than any other
SUMS = "sums"  # the item of a checkpoint
BEST = "best_metric"  # Orbax's name of the metric that ranks checkpoints
State = Mapping[str, Any]  # arrays by name: params, ema, optimizer, step, key


class Resumed(NamedTuple):
    """The state from which a run continues."""

    step: int
    record: RunRecord
    state: dict[str, Any]  # empty for a run that is finished
    data: dict[str, Any]  # as given to `Checkpoints.save`


class UnreadableCheckpointError(ArtifactError):
    """A checkpoint that is damaged, still being written, or being deleted."""


def steps(workdir: epath.PathLike) -> list[int]:
    """Returns the steps of the checkpoints of a work directory, ascending; empty where there are none yet.

    Checkpoints that are being written are not included: Orbax gives them temporary names.
    """
    folder = epath.Path(workdir) / FOLDER
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def newest(workdir: epath.PathLike) -> dict[str, Any] | None:
    """Returns the step of the newest checkpoint and a hash of its checksums; None where there is no checkpoint."""
    found = steps(workdir)
    if not found:
        return None
    try:
        sums = artifacts.hash_file(epath.Path(workdir) / FOLDER / str(found[-1]) / SUMS / "metadata")
    except OSError:  # damaged, or being deleted
        sums = None
    return {"step": found[-1], "parameters": sums}


class Checkpoints:
    """The checkpoints of one work directory, of which the latest and the best by `best_metric` are kept."""

    def __init__(self, workdir: epath.PathLike, keep_best: int = 1, keep_latest: int = 2):
        workdir = epath.Path(workdir)
        self._workdir = workdir if "://" in str(workdir) else workdir.resolve()  # Orbax wants an absolute path

        metric = operator.itemgetter(BEST)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(keep_latest), checkpoint_managers.BestN(get_metric_fn=metric, n=keep_best)]
        )
        # Without best_fn Orbax would not store the metric.
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, best_fn=metric)
        items = ("ema", "training", "data", "record", SUMS)
        self.manager = ocp.CheckpointManager(self._workdir / FOLDER, options=options, item_names=items)
        # Every process reads without waiting for the others, so that one can report that its part is damaged.
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
        """Returns the steps of all complete checkpoints, ascending."""
        return sorted(self.manager.all_steps())

    def best(self) -> tuple[int, float] | None:
        """Returns step and metric of the best validated checkpoint (the earliest among equals); None without any."""
        self.manager.wait_until_finished()  # a checkpoint that is being written has no metric yet
        scored = [(self.manager.metrics(step)[BEST], -step) for step in self.steps]
        value, negative_step = max(scored, default=(NOT_VALIDATED, 0))
        return None if value == NOT_VALIDATED else (-negative_step, value)

    def save(
        self, step: int, state: State, data: Mapping[str, int], record: RunRecord, metric: float = NOT_VALIDATED
    ) -> None:
        """Saves in the background; returns when the arrays may be changed. Replaces a checkpoint of the same step.

        `data` is the position of the input pipeline, for JSON; `metric` is the value of `best_metric`.
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

    def record(self, step: int) -> RunRecord:
        """Reads the run record; raises ArtifactError for a checkpoint of another version of genrec."""
        fields = self._read(step, record=ocp.args.JsonRestore()).record
        unknown = fields.keys() - {field.name for field in dataclasses.fields(RunRecord)}
        if unknown:
            raise ArtifactError(
                f"{self._workdir / FOLDER}/{step}: written by another version of genrec (with {sorted(unknown)}). "
                "Use that version, or train again in a new --workdir."
            )
        return RunRecord(**fields)

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        """Reads some items of a checkpoint by name."""
        return self._reader.restore(step, args=ocp.args.Composite(**items))

    def resume(self, record: RunRecord, abstract: State) -> Resumed | None:
        """Restores the newest checkpoint that can be read; returns None when there is no checkpoint.

        `record` describes the run that resumes; `abstract` is its state as abstract arrays with the shardings to
        restore to. Newer checkpoints that cannot be read are moved into WORKDIR/unreadable_checkpoints.

        Raises ArtifactError when the checkpoint belongs to another run, or when none can be read.
        """
        unreadable: list[int] = []
        for step in reversed(self.steps):
            error: Exception | None = None
            try:
                resumed, sums = self._resume(step, record, abstract)
            except ArtifactError:
                raise
            except Exception as problem:  # Orbax and file systems raise any type for missing or broken files
                error = problem
            # The checksums are a collective: every process must have read its part.
            if distributed.everywhere(error is None):
                if resumed.record.finished or _sums(resumed.state) == sums:
                    self._move_away(unreadable)
                    return resumed
                error = ValueError("wrong checksums of the arrays")
            unreadable.append(step)
            logging.warning(
                "checkpoint %d cannot be read: %.300s", step, repr(error) if error else "by another process"
            )
        if unreadable:
            raise ArtifactError(
                f"{self._workdir / FOLDER}: none of the checkpoints {unreadable} can be read; see the warnings above. "
                "Restore access to the files, or move the folder away to train from the start."
            )
        return None

    def _resume(self, step: int, record: RunRecord, abstract: State) -> tuple[Resumed, dict[str, list[int]] | None]:
        """Restores one checkpoint; also returns the checksums that were saved with its arrays."""
        earlier = self.record(step)
        self.check_same_run(earlier, record)
        resumed = dataclasses.replace(
            record,
            validated=earlier.validated,
            validations_without_best=earlier.validations_without_best,
            finished=earlier.finished,
        )
        if earlier.finished:
            return Resumed(step, resumed, {}, {}), None
        restored = self._read(
            step,
            ema=ocp.args.StandardRestore(abstract["ema"]),
            training=ocp.args.StandardRestore(_without_ema(abstract)),
            data=ocp.args.JsonRestore(),
            sums=ocp.args.JsonRestore(),
        )
        state = {**restored.training, "ema": restored.ema}
        return Resumed(step, resumed, state, restored.data), restored.sums

    def check_same_run(self, earlier: RunRecord, record: RunRecord) -> None:
        """Raises ArtifactError if the run of `record` cannot resume from a checkpoint with the record `earlier`."""
        if differences := earlier.differences(record):
            raise ArtifactError(
                f"{self._workdir / FOLDER}: the checkpoints are of another run: {'; '.join(differences)}. "
                "Undo the change, choose another --workdir, or delete the checkpoints."
            )

    def _move_away(self, steps: list[int]) -> None:
        """Moves checkpoints away, to make room for new ones of the same steps."""
        if not steps:
            return

        def move() -> None:
            for step in steps:
                target = self._workdir / UNREADABLE / str(step)
                while target.exists():
                    target = target.with_name(f"{target.name}_")
                target.parent.mkdir(exist_ok=True)
                (self._workdir / FOLDER / str(step)).rename(target)
                logging.warning("moved it to %s; resuming from the checkpoint before", target)

        distributed.on_first(move)
        self.manager.reload()

    def restore_ema(self, step: int, ema: nnx.State) -> nnx.State:
        """Restores the averaged parameters to the shapes and shardings of abstract arrays.

        Raises UnreadableCheckpointError when their checksums are wrong.
        """
        restored = self._read(step, ema=ocp.args.StandardRestore(ema), sums=ocp.args.JsonRestore())
        if _sums({"ema": restored.ema})["ema"] != restored.sums["ema"]:
            raise UnreadableCheckpointError(f"{self._workdir / FOLDER}/{step}: is damaged. Choose another checkpoint.")
        return restored.ema

    def close(self) -> None:
        """Waits for saves in the background, and closes the managers."""
        self.manager.wait_until_finished()
        self.manager.close()
        self._reader.close()


def _without_ema(state: State) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "ema"}


def fingerprint(params: nnx.State) -> str:
    """Returns a hash of parameters, which is the same on every mesh."""
    return hashlib.blake2b(json.dumps(_sums({"ema": params})).encode(), digest_size=8).hexdigest()


@jax.jit
def _bit_sums(arrays: list[jax.Array]) -> list[jax.Array]:
    unsigned = {1: "uint8", 2: "uint16", 4: "uint32"}
    bits = [jax.lax.bitcast_convert_type(x, unsigned[x.dtype.itemsize]) for x in arrays]
    return [jax.numpy.sum(x.astype("uint32"), dtype="uint32") for x in bits]


def _sums(state: State) -> dict[str, list[int]]:
    """Returns checksums of the arrays of each part of a state, the same on every mesh; any flipped bit changes them."""

    def of(part: Any) -> list[int]:
        arrays = [
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in jax.tree.leaves(part)
        ]
        return [int(x) for x in jax.device_get(_bit_sums(arrays))]

    return {name: of(part) for name, part in state.items()}
