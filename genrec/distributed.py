"""Multi-process runs: detection of the job from flags or the environment, initialization, and collectives."""

import dataclasses
import logging as standard_logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

from genrec.errors import GenrecError

MODES = ("auto", "on", "off")
# A process without a heartbeat for this long is lost, and the others exit so that the scheduler restarts all of them.
HEARTBEAT_SECONDS = 60


class DistributedError(GenrecError):
    """Error when the processes cannot be connected. The message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Processes of one run. JAX detects what is None (Slurm, Cloud TPU, GKE)."""

    coordinator: str | None = None  # HOST:PORT of process 0
    processes: int | None = None  # number of processes
    process: int | None = None  # index of this process


def find(mode: str, by_hand: Job, environment: Mapping[str, str]) -> Job | None:
    """Returns the job that flags or environment variables describe; None for a single process.

    Args:
      mode: "on" (there is a job that JAX detects), "off", or "auto": there is a job if the environment has
        JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, a Slurm step of several tasks, or
        TPU_WORKER_HOSTNAMES of several hosts.
      by_hand: The job given by flags, which has precedence.
      environment: Environment variables.

    Raises:
      DistributedError: if flags or variables are incomplete or contradict each other.
    """
    if by_hand != Job():
        return _checked(by_hand.coordinator, by_hand.processes, by_hand.process)
    if mode == "off":
        return None
    if "JAX_COORDINATOR_ADDRESS" in environment and "JAX_NUM_PROCESSES" in environment:
        try:
            processes, process = int(environment["JAX_NUM_PROCESSES"]), int(environment["JAX_PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise DistributedError(
                "JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be integers."
            ) from error
        return _checked(environment["JAX_COORDINATOR_ADDRESS"], processes, process)
    # A batch script has most variables of a step, but runs once: only steps have a node list of their own.
    on_slurm = "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1
    on_tpus = len(environment.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
    return Job() if mode == "on" or on_slurm or on_tpus else None


def join(job: Job | None) -> None:
    """Connects this process to the others of its job (None: does nothing), before any other use of JAX.

    All processes but process 0 then log warnings only. Raises DistributedError if JAX has to detect the job and cannot.
    """
    if job is None:
        return
    try:
        jax.distributed.initialize(
            job.coordinator, job.processes, job.process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except ValueError as error:
        raise DistributedError(
            f"--distributed=on, but JAX detects no cluster here ({error}). Give --coordinator, --processes and "
            "--process, or --distributed=off."
        ) from error
    logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
    if not is_first():
        logging.set_verbosity(logging.WARNING)
        standard_logging.getLogger().setLevel(standard_logging.WARNING)


def is_first() -> bool:
    """Returns whether this is process 0, which writes the files."""
    return jax.process_index() == 0


def on_first(work: Callable[[], None]) -> None:
    """Calls `work` in process 0 alone; the other processes wait until it is done."""
    if is_first():
        work()
    barrier()


def barrier() -> None:
    """Waits until all processes have called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("genrec")


def broadcast(tree: Any) -> Any:
    """Returns the tree of NumPy arrays of process 0: a collective, which all processes call with equal shapes."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def everywhere(holds: bool) -> bool:
    """Returns the logical AND of `holds` over all processes: a collective, which all of them call."""
    if jax.process_count() == 1:
        return holds
    return bool(multihost_utils.process_allgather(jax.numpy.array(holds)).all())


def _checked(coordinator: str | None, processes: int | None, process: int | None) -> Job:
    if coordinator is None or processes is None or process is None:
        raise DistributedError("--coordinator, --processes and --process belong together: give all three or none.")
    if not 0 <= process < processes or ":" not in coordinator:
        raise DistributedError(
            f"process {process} of {processes} with the coordinator {coordinator!r}: give a process below the number "
            "of processes, and the coordinator as HOST:PORT."
        )
    return Job(coordinator, processes, process)
