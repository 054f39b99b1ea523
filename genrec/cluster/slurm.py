"""Batch scripts for Slurm: one process per GPU (or per node without GPUs), requeued until the command succeeds."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import ClassVar

from genrec.cluster.job import ClusterError, Job, at_least_one, heading, setting
from genrec.exit_codes import FAILED, RESTART

_BODY = Path(__file__).with_name("slurm.sh")
# minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds
_TIME = re.compile(r"\d+(:\d{2}){0,2}|\d+-\d{1,2}(:\d{2}){0,2}")
_LOCAL = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # folders that are local to a machine on all systems


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmJob(Job):
    """Settings of a job on Slurm."""

    target: ClassVar[str] = "slurm"

    nodes: int = setting("Number of nodes (by default 1), with one process per GPU or, without GPUs, per node.", 1)
    gpus_per_node: int = setting("Number of GPUs per node.", 0)
    cpus_per_task: int | None = setting("CPU cores per process.", None)
    time_limit: str | None = setting(
        "Time limit, such as 1-12:00:00; shortly before it the job saves a checkpoint and is requeued.", None
    )
    partition: str | None = setting("Slurm partition.", None)
    account: str | None = setting("Slurm account.", None)
    setup: str | None = setting("Shell command to run first, such as 'module load cuda'.", None)
    grace: int = setting("Seconds before the time limit at which a checkpoint is saved (by default 120).", 120)

    def __post_init__(self):
        super().__post_init__()
        at_least_one("nodes", self.nodes)
        at_least_one("grace", self.grace)
        if self.gpus_per_node < 0:
            raise ClusterError(f"--gpus_per_node must be at least 0, for CPUs, got {self.gpus_per_node}.")
        if self.cpus_per_task is not None:
            at_least_one("cpus_per_task", self.cpus_per_task)
        if self.time_limit is not None and not _TIME.fullmatch(self.time_limit):
            raise ClusterError(
                f"--time_limit={self.time_limit}: give hours:minutes:seconds or days-hours:minutes:seconds."
            )
        for name in ("partition", "account"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w.,-]+", value):
                raise ClusterError(f"--{name}={value}: give a name that `sinfo` or `sacctmgr` lists.")
        if self.setup is not None and "\n" in self.setup:
            raise ClusterError("--setup has several lines. Join them with &&, or give a script: 'source setup.sh'.")
        if self.nodes > 1 and any(Path(self.workdir).is_relative_to(folder) for folder in _LOCAL):
            raise ClusterError(
                f"--workdir={self.workdir} is local to each of the {self.nodes} nodes. Give a folder on the shared "
                "file system."
            )

    @property
    def tasks_per_node(self) -> int:
        """Number of processes per node; under Slurm, JAX gives each of them one GPU."""
        return max(self.gpus_per_node, 1)


def render(job: SlurmJob) -> str:
    """Returns the script, for `sbatch`."""
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": job.tasks_per_node,
        "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_task,
        "time": job.time_limit,
        "partition": job.partition,
        "account": job.account,
        "signal": f"TERM@{job.grace}",  # to the processes, not to the script
        "open-mode": "append",
        "output": f"{job.name}-%j.log",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    command = shlex.join([*job.words, f"--workdir={job.workdir}"])
    return (
        "#!/usr/bin/env bash\n"
        + "".join(f"{line}\n" for line in [*lines, "#SBATCH --requeue"])
        + heading(job)
        + f"set -euo pipefail\n\nname={job.name}\nrestarts={job.restarts}\nfailed={FAILED}\nrestart={RESTART}\n"
        + f"command=({command})\n"
        + f"set_up() {{\n  {job.setup or ':'}\n}}\n\n"
        + _BODY.read_text(encoding="utf-8")
    )
