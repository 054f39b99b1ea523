"""Plan of a job before it is rendered: whether its training fits on the TPU slices that it asks for.

tools/plan_training.py compiles for them, in a process of its own.
"""

import subprocess
import sys
from pathlib import Path

from genrec.cluster.job import ClusterError, Target
from genrec.cluster.jobset import GkeJob
from genrec.cluster.tpu_vm import TpuVmJob

SCRIPT = Path(__file__).parents[2] / "tools" / "plan_training.py"


def arguments(job: Target) -> list[str]:
    """Returns the flags of the plan of a job; raises ClusterError for one without TPUs or without a config."""
    if not isinstance(job, GkeJob | TpuVmJob) or job.topology is None:
        raise ClusterError("--plan is for TPUs: give --accelerator and --topology of one, or leave --plan out.")
    words, settings = job.words, list[str]()
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name.lstrip("-") == "config" or name.lstrip("-").startswith("config."):
            settings.append(word if equals else f"{word}={words[place + 1] if place + 1 < len(words) else ''}")
    if not any(word.lstrip("-").startswith("config=") for word in settings):
        raise ClusterError(f"--plan needs a command with --config, got {job.command!r}. Leave --plan out for others.")
    slices = job.slices if isinstance(job, GkeJob) else 1
    return [*settings, f"--topology={job.accelerator}:{job.topology}", f"--slices={slices}"]


def check(job: Target) -> None:
    """Prints the plan of the training step of a job to stderr; raises ClusterError if it does not fit."""
    command = [sys.executable, str(SCRIPT), *arguments(job), "--what=step"]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise ClusterError(
            "the plan of this job failed, see above; no job was rendered. Change it, or leave --plan out."
        )
