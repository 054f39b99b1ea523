"""Scripts that run a command on the hosts of a Cloud TPU slice, from the machine where they are started.

A script requests the slice as a queued resource, installs the checkout on every host, runs the command on all of them,
requests another slice after a preemption, and deletes the slice at the end.
"""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import ClassVar

from genrec.cluster import accelerators
from genrec.cluster.job import CACHE, MOUNT, ClusterError, Job, bucket_of, heading, setting
from genrec.exit_codes import FAILED, RESTART

_BODY = Path(__file__).with_name("tpu_vm.sh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuVmJob(Job):
    """Settings of a job on Cloud TPU VMs."""

    target: ClassVar[str] = "tpu_vm"

    accelerator: str = setting(f"TPU generation ({', '.join(accelerators.TPUS)}).")
    topology: str = setting("Topology of the TPU slice, such as 4x4.")
    zone: str = setting("Zone of the TPU slice, such as us-central1-a.")
    project: str | None = setting("Google Cloud project; by default that of gcloud's configuration.", None)
    spot: bool = setting("Use spot machines, which are cheaper and can be preempted at any time.", False)
    service_account: str | None = setting("Service account with read and write access to the bucket.", None)
    runtime_version: str | None = setting("Software version of the TPU VMs; by default that of the generation.", None)
    mount: bool = setting("Mount the bucket as a file system (default); --nomount uses gs:// paths.", True)

    def __post_init__(self):
        super().__post_init__()
        bucket_of(self.workdir)
        if not re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", self.zone):
            raise ClusterError(f"--zone={self.zone}: not a zone. Give one with {self.accelerator}, as us-central1-a.")
        self.slice  # noqa: B018, raises ClusterError if it does not exist

    @property
    def slice(self) -> accelerators.TpuSlice:
        """Shape of the TPU slice."""
        return accelerators.tpu_slice(self.accelerator, self.topology)


def render(job: TpuVmJob) -> str:
    """Returns the script, for bash, to be started in the checkout."""
    bucket, folder = bucket_of(job.workdir)
    workdir = f"{MOUNT}/{folder}" if job.mount else job.workdir
    cache = f"JAX_COMPILATION_CACHE_DIR={workdir}/{CACHE}"
    arguments = ["env", cache, *job.words, f"--workdir={workdir}"]
    if job.slice.hosts > 1:
        arguments.append("--distributed=on")  # the environment of a TPU VM does not tell that there are several
    create = [
        f"--accelerator-type={job.slice.vm_type}",
        f"--runtime-version={job.runtime_version or job.slice.generation.runtime}",
        *(["--spot"] if job.spot else []),
        *([f"--service-account={job.service_account}"] if job.service_account else []),
    ]
    where = [f"--zone={job.zone}", *([f"--project={job.project}"] if job.project else [])]
    return (
        "#!/usr/bin/env bash\n"
        + heading(job)
        + f"set -euo pipefail\n\nname={job.name}\nhosts={job.slice.hosts}\nrestarts={job.restarts}\n"
        + f"failed={FAILED}\nrestart={RESTART}\nwhere=({shlex.join(where)})\ncreate=({shlex.join(create)})\n"
        + f"bucket={bucket if job.mount else shlex.quote('')}\nmount={MOUNT}\n"
        + f"command=({shlex.join(arguments)})\n\n"
        + _BODY.read_text(encoding="utf-8")
    )
