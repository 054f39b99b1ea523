"""Several processes as one run: finds the others from flags or the environment, and joins them by `jax.distributed`."""

import dataclasses
import logging as standard_logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

from genrec.errors import GenrecError

MODES = ("auto", "on", "off")
# A process that says nothing for this long is lost, and the others end so that the scheduler starts all of them anew.
HEARTBEAT_SECONDS = 60


class DistributedError(GenrecError):
    """The processes cannot be joined. The message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Job:
    """The processes of one run. What is None, JAX finds out by itself (Slurm, Cloud TPU, GKE)."""

    coordinator: str | None = None  # HOST:PORT of process 0
    processes: int | None = None
    process: int | None = None  # number of this one


def find(mode: str, by_hand: Job, environment: Mapping[str, str]) -> Job | None:
    """The job that flags or environment variables describe; None for a single process.

    `mode` is "on" (there is a job, and JAX finds it), "off" or "auto": a job is there when flags say so, or
    JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, or a Slurm step of several tasks, or
    TPU_WORKER_HOSTNAMES of several hosts.
    """
    given = [value is not None for value in dataclasses.astuple(by_hand)]
    if any(given):
        if not all(given):
            raise DistributedError("--coordinator, --processes and --process belong together: give all three or none.")
        return _checked(by_hand)
    if mode == "off":
        return None
    if "JAX_COORDINATOR_ADDRESS" in environment and "JAX_NUM_PROCESSES" in environment:
        try:
            numbers = [int(environment[name]) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")]
        except (KeyError, ValueError) as error:
            raise DistributedError(
                "JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers."
            ) from error
        return _checked(Job(environment["JAX_COORDINATOR_ADDRESS"], *numbers))
    # A batch script has most variables of a step, but runs once: only steps have a list of nodes of their own.
    on_slurm = "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1
    on_tpus = len(environment.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
    return Job() if mode == "on" or on_slurm or on_tpus else None


def join(job: Job | None) -> None:
    """Connects this process to the others of its job; to be called before anything else of JAX.

    Processes but the first then log warnings only. Raises DistributedError when JAX finds no job where `Job()` says
    that there is one.
    """
    if job is None:
        return
    try:
        jax.distributed.initialize(
            job.coordinator, job.processes, job.process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except ValueError as error:
        raise DistributedError(
            f"--distributed=on, but JAX finds no cluster here ({error}). Give --coordinator, --processes and "
            "--process, or --distributed=off."
        ) from error
    logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
    if not is_first():
        logging.set_verbosity(logging.WARNING)
        standard_logging.getLogger().setLevel(standard_logging.WARNING)


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def on_first(work: Callable[[], None]) -> None:
    """Does `work` in the first process alone; the others wait for its end."""
    if is_first():
        work()
    barrier()


def barrier() -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("genrec")


def of_first(tree: Any) -> Any:
    """A tree of NumPy arrays as the first process has it; all processes must ask, with arrays of the same shapes."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def everywhere(holds: bool) -> bool:
    """Whether something holds in every process; all of them must ask."""
    if jax.process_count() == 1:
        return holds
    return bool(multihost_utils.process_allgather(jax.numpy.array(holds)).all())


def _checked(job: Job) -> Job:
    if not 0 <= job.process < job.processes or ":" not in job.coordinator:
        raise DistributedError(
            f"process {job.process} of {job.processes} with the coordinator {job.coordinator!r}: give a process below "
            "the number of processes, and the coordinator as HOST:PORT."
        )
    return job
