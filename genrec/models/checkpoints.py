"""Checkpoints of a training run, on Orbax, which no other module uses.

`checkpoints/STEP/` holds five items, written atomically: `ema`, the averaged parameters, which are evaluated and
served; `training`, the other arrays that a resumed run needs (parameters, optimizer, step, random key); `data`, the
position of the input pipeline; `record`, the run record; `sums`, checksums of all arrays, which detect damage. Beside
them are `metrics`, and `files.json` with the size of each file: a checkpoint counts, as newest, best or one of those
that are kept, only with all its files. Half-deleted ones remain of a run that was killed while Orbax deleted in place.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from genrec import artifacts, disk_space, distributed, files
from genrec.artifacts import ArtifactError
from genrec.models.run_record import RunRecord

FOLDER = "checkpoints"
SASREC = "sasrec"  # folder of a work directory with checkpoints and logs of the baseline
UNREADABLE = "unreadable_checkpoints"  # folder to which training moves damaged checkpoints
NOT_VALIDATED = -1.0  # the metric of a checkpoint without validation: worse than any other
SUMS = "sums"  # the item of a checkpoint
BEST = "best_metric"  # among the metrics: ranks checkpoints
LISTED = "files_listed"  # among the metrics: whether there is a list of files, which earlier versions did not write
FILES = "files.json"
ITEMS = ("ema", "training", "data", "record", SUMS)
NEEDED = ("ema/manifest.ocdbt", "training/manifest.ocdbt", "data/metadata", "record/metadata", f"{SUMS}/metadata")
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
    """Returns the steps of the complete checkpoints of a work directory, ascending; empty where there are none yet."""
    return sorted(_metrics(epath.Path(workdir) / FOLDER)[0])


def _metrics(folder: epath.Path) -> tuple[dict[int, float], list[int]]:
    """Returns the metrics of the complete checkpoints in `folder` by step, and the steps of incomplete ones.

    Checkpoints that are being written are not included: Orbax gives them temporary names.
    """
    names = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []
    found = {step: _metric_if_complete(folder / str(step)) for step in names}
    complete = {step: metric for step, metric in found.items() if metric is not None}
    return complete, [step for step in names if step not in complete]


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields all files below a folder."""
    for path in folder.iterdir():
        yield from _files(path) if path.is_dir() else (path,)


def _metric_if_complete(folder: epath.Path) -> float | None:
    """Returns the metric of a checkpoint; None unless all its files are there with their sizes."""
    try:
        metrics = json.loads((folder / "metrics" / "metrics").read_text())
        if not metrics.get(LISTED):
            return metrics[BEST] if all((folder / name).exists() for name in NEEDED) else None
        sizes = json.loads((folder / FILES).read_text())
        with ThreadPoolExecutor(16) as pool:  # in a bucket each is a request
            found = list(pool.map(lambda name: (folder / name).stat().length, sizes))
        return metrics[BEST] if found == list(sizes.values()) else None
    except (OSError, ValueError, LookupError):
        return None


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
    """The checkpoints of one work directory, of which the latest and the best by `best_metric` are kept.

    Those that are incomplete are ignored, and moved into WORKDIR/unreadable_checkpoints by the first call of `save`, or
    by `resume`.
    """

    def __init__(self, workdir: epath.PathLike, keep_best: int = 1, keep_latest: int = 2):
        workdir = epath.Path(workdir)
        self._workdir = workdir if "://" in str(workdir) else workdir.resolve()  # Orbax wants an absolute path
        self._folder = self._workdir / FOLDER
        self._keep_best, self._keep_latest = keep_best, keep_latest
        self._by_step, self._incomplete = _metrics(self._folder)  # metrics; steps
        self._saving, self._bytes = 0, 0  # step and size of what is being saved
        # Every process reads without waiting for the others, so that one can report that its part is damaged.
        myself = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=myself, active_processes={myself}, barrier_sync_key_prefix=f"process_{myself}"
        )
        self._reader = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                create=False, lightweight_initialize=True, multiprocessing_options=alone
            ),
            item_names=ITEMS,
        )

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """Returns Orbax's manager, which writes; it must never see an incomplete checkpoint, which it would count."""
        self._put_aside(self._incomplete)
        metric = operator.itemgetter(BEST)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(self._keep_latest),
                checkpoint_managers.BestN(get_metric_fn=metric, n=self._keep_best),
            ]
        )
        # Without best_fn Orbax would not store the metric.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=metric,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )
        return ocp.CheckpointManager(self._folder, options=options, item_names=ITEMS)

    @property
    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, ascending, with the one that is being written."""
        return sorted(self._by_step)

    @property
    def incomplete(self) -> list[int]:
        """Returns the steps of checkpoints that lack files, ascending."""
        return self._incomplete

    def best(self) -> tuple[int, float] | None:
        """Returns step and metric of the best validated checkpoint (the earliest among equals); None without any."""
        value, negative_step = max(
            ((metric, -step) for step, metric in self._by_step.items()), default=(NOT_VALIDATED, 0)
        )
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
        with self._writing(state):
            self._manager.wait_until_finished()
            if step in self._by_step:
                self._manager.delete(step)
            self._saving = step
            self._manager.save(step, args=items, metrics={BEST: float(metric), LISTED: True}, force=True)
        self._by_step[step] = float(metric)
        self._by_step = {kept: self._by_step[kept] for kept in self._manager.all_steps()}

    @contextlib.contextmanager
    def _writing(self, state: State | None = None) -> Iterator[None]:
        """Raises DiskFullError in place of all that Orbax raises for a full disk, at once or from an earlier save."""
        if state is not None:
            self._bytes = sum(x.nbytes for x in jax.tree.leaves(state))
        try:
            yield
        except Exception as error:
            if full := disk_space.cause(error, self._folder, self._bytes):
                raise full from error
            raise

    def _list_files(self) -> None:
        """Lists the files of the checkpoint that is being saved; called before it gets its name."""
        if not distributed.is_first():
            return
        name = str(self._saving)
        folders = [path for path in self._folder.iterdir() if path.name.split(".")[0] == name]
        folder = max(folders, key=lambda path: path.stat().mtime)  # the name of a temporary one is Orbax's affair
        sizes = {
            str(path.relative_to(folder)): path.stat().length
            for item in (*ITEMS, "metrics")
            for path in _files(folder / item)
        }
        files.write_text(folder / FILES, json.dumps(sizes))

    def record(self, step: int) -> RunRecord:
        """Reads the run record; raises ArtifactError for a checkpoint of another version of genrec."""
        fields = self._read(step, record=ocp.args.JsonRestore()).record
        unknown = fields.keys() - {field.name for field in dataclasses.fields(RunRecord)}
        if unknown:
            raise ArtifactError(
                f"{self._folder}/{step}: written by another version of genrec (with {sorted(unknown)}). "
                "Use that version, or train again in a new --workdir."
            )
        return RunRecord(**fields)

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        """Reads some items of a checkpoint by name."""
        return self._reader.restore(step, args=ocp.args.Composite(**items))

    def resume(self, record: RunRecord, abstract: State) -> Resumed | None:
        """Restores the newest checkpoint that can be read; returns None when there is no checkpoint.

        `record` describes the run that resumes; `abstract` is its state as abstract arrays with the shardings to
        restore to. Newer checkpoints that cannot be read are moved into WORKDIR/unreadable_checkpoints, incomplete ones
        of any age as well.

        Raises ArtifactError when the checkpoint belongs to another run, or when none can be read.
        """
        self._agree()
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
                    self._put_aside([*self._incomplete, *unreadable])
                    return resumed
                error = ValueError("wrong checksums of the arrays")
            unreadable.append(step)
            logging.warning(
                "checkpoint %d cannot be read: %.300s", step, repr(error) if error else "by another process"
            )
        if unreadable or self._incomplete:
            raise ArtifactError(
                f"{self._folder}: none of the checkpoints {sorted([*unreadable, *self._incomplete])} can be read: "
                "files are missing or damaged. Restore access to them, or move the folder away to train from the start."
            )
        return None

    def _agree(self) -> None:
        """Counts as incomplete what any process sees so: all must try to read the same checkpoints."""
        for step in sorted([*self._by_step, *self._incomplete]):
            if not distributed.everywhere(step in self._by_step) and step in self._by_step:
                del self._by_step[step]
                self._incomplete = sorted([*self._incomplete, step])

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
                f"{self._folder}: the checkpoints are of another run: {'; '.join(differences)}. "
                "Undo the change, choose another --workdir, or delete the checkpoints."
            )

    def _put_aside(self, steps: list[int]) -> None:
        """Moves checkpoints to where they do not count, and make room for new ones of the same steps."""
        if not steps:
            return

        def move() -> None:
            for step in steps:
                target = self._workdir / UNREADABLE / str(step)
                while target.exists():
                    target = target.with_name(f"{target.name}_")
                target.parent.mkdir(exist_ok=True)
                (self._folder / str(step)).rename(target)
                logging.warning("checkpoint %d is incomplete or damaged: moved to %s", step, target)

        distributed.on_first(move)
        self._by_step = {step: metric for step, metric in self._by_step.items() if step not in steps}
        self._incomplete = []

    def restore_ema(self, step: int, ema: nnx.State) -> nnx.State:
        """Restores the averaged parameters to the shapes and shardings of abstract arrays.

        Raises UnreadableCheckpointError when their checksums are wrong.
        """
        restored = self._read(step, ema=ocp.args.StandardRestore(ema), sums=ocp.args.JsonRestore())
        if _sums({"ema": restored.ema})["ema"] != restored.sums["ema"]:
            raise UnreadableCheckpointError(f"{self._folder}/{step}: is damaged. Choose another checkpoint.")
        return restored.ema

    def close(self) -> None:
        """Waits for saves in the background, and closes the managers."""
        if "_manager" in self.__dict__:
            with self._writing():
                self._manager.wait_until_finished()
                self._manager.close()
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
