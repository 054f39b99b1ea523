"""Detection of the job from flags and environment; interruption_test tests several processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from genrec import distributed
from genrec.distributed import Job

NONE = Job()
BY_HAND = Job("host:1234", 4, 3)
VARIABLES = {"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "node[1-2]"}
TPU = {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "0"}


@pytest.mark.parametrize(
    ("mode", "by_hand", "environment", "job"),
    [
        ("auto", NONE, {}, None),
        ("auto", BY_HAND, {}, BY_HAND),
        ("auto", NONE, VARIABLES, BY_HAND),
        ("auto", Job("other:1", 2, 0), VARIABLES, Job("other:1", 2, 0)),
        ("auto", NONE, SLURM, NONE),
        ("auto", NONE, SLURM | {"SLURM_NTASKS": "1"}, None),
        # The batch script itself, which runs before and around the steps.
        ("auto", NONE, {name: value for name, value in SLURM.items() if "STEP" not in name}, None),
        ("auto", NONE, TPU, NONE),
        ("auto", NONE, {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ("on", NONE, {}, NONE),
        ("off", NONE, SLURM | VARIABLES, None),
    ],
)
def test_the_job_is_detected(mode, by_hand, environment, job):
    assert distributed.find(mode, by_hand, environment) == job


@pytest.mark.parametrize(
    ("by_hand", "environment", "message"),
    [
        (Job("host:1234", 4), {}, "--coordinator, --processes and --process"),
        (Job("host:1234", 4, 4), {}, "process 4 of 4"),
        (Job("host", 4, 0), {}, "HOST:PORT"),
        (NONE, VARIABLES | {"JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID"),
        (NONE, {name: value for name, value in VARIABLES.items() if name != "JAX_PROCESS_ID"}, "JAX_PROCESS_ID"),
    ],
)
def test_incomplete_and_contradicting_jobs_are_refused(by_hand, environment, message):
    with pytest.raises(distributed.DistributedError, match=message):
        distributed.find("auto", by_hand, environment)


def test_without_a_cluster_the_flags_are_named():
    # In a process of its own: others may not be joined once JAX has been used.
    join = "from genrec import distributed; distributed.join(distributed.Job())"
    ended = subprocess.run(
        [sys.executable, "-c", join], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert "DistributedError" in ended.stderr and "--coordinator, --processes and --process" in ended.stderr


def test_a_single_process_is_the_first_and_does_not_wait():
    done = []
    distributed.join(None)
    distributed.on_first(lambda: done.append(1))
    distributed.barrier()
    assert done == [1] and distributed.is_first()
    assert distributed.everywhere(True) and not distributed.everywhere(False)
