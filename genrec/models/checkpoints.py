"""Checkpoints of a training run: everything Orbax, behind one module.

`checkpoints/STEP/` holds five items, written together or not at all: `ema`, the averaged parameters that are evaluated
and served; `training`, the arrays that a resumed run needs besides (parameters, optimizer, step, random key); `data`,
where the input stands; `record`, what the run is (model, semantic IDs, dataset) and how far it came; `sums`, of the
bits of all arrays, by which damage is found.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from genrec import distributed
from genrec.artifacts import ArtifactError
from genrec.models.run_record import RunRecord

FOLDER = "checkpoints"
SASREC = "sasrec"  # folder of a work directory in which the baseline has its own checkpoints and logs
UNREADABLE = "unreadable_checkpoints"  # where newer ones go when a run goes on from an older one
NOT_VALIDATED = -1.0  # the metric of a checkpoint that was saved without a validation: worse than any
SUMS = "sums"  # the item of a checkpoint
BEST = "best_metric"  # the name under which Orbax keeps the metric that ranks checkpoints


class Resumed(NamedTuple):
    """Where a run goes on."""

    step: int
    record: RunRecord
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
        record: RunRecord,
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

    def record(self, step: int) -> RunRecord:
        fields = self._read(step, record=ocp.args.JsonRestore()).record
        unknown = fields.keys() - {field.name for field in dataclasses.fields(RunRecord)}
        if unknown:
            raise ArtifactError(
                f"{self._workdir / FOLDER}/{step}: written by another version of genrec (it knows {sorted(unknown)}). "
                "Use that version, or train again in a new --workdir."
            )
        return RunRecord(**fields)

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        """Some items of a checkpoint, by their names."""
        return self._reader.restore(step, args=ocp.args.Composite(**items))

    def resume(self, record: RunRecord, abstract: Mapping[str, Any]) -> Resumed | None:
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
        self, step: int, record: RunRecord, abstract: Mapping[str, Any]
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
                logging.warning("moved it to %s; resuming from the checkpoint before", target)

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
