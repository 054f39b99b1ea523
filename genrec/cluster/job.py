"""What jobs on all clusters have in common: a name, one command, and a work directory that outlives the machines."""

import dataclasses
import re
import shlex
from typing import Any, ClassVar

from genrec.errors import GenrecError

MOUNT = "/bucket"  # where a job sees the bucket of its work directory

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.+)")
_ADDED = ("--workdir", "--distributed")  # by the job
_OPERATORS = ("&&", "||", ";", "|", "&", ">", ">>", "<")


class ClusterError(GenrecError):
    """A job that could not run as it is described. The message names the flag and says what to give."""


def setting(description: str, default: Any = dataclasses.MISSING) -> Any:
    """A field of a job; `launch/cluster/render.py` has a flag of the same name, type and description."""
    return dataclasses.field(default=default, metadata={"description": description})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The settings of every target; each adds its own. Raises `ClusterError` for what cannot run."""

    target: ClassVar[str]

    name: str = setting("Name of the job: lower-case letters, digits and hyphens, at most 40.")
    command: str = setting("What to run, quoted as for a shell; --workdir is added to it.")
    workdir: str = setting("Folder or bucket with the stages' results, in reach of all hosts; it outlives the job.")
    restarts: int = setting(
        "How many crashes are followed by a new start (by default 10). Preemptions are, always.", 10
    )

    def __post_init__(self):
        if not _NAME.fullmatch(self.name):
            raise ClusterError(
                f"--name={self.name}: not a name for a job. Give lower-case letters, digits and hyphens, at most 40, "
                "that begin with a letter and do not end with a hyphen (RFC 1123): quickstart-v5e."
            )
        if self.restarts < 0:
            raise ClusterError(f"--restarts={self.restarts}: give 0, for none, or more.")
        words = self.words
        if not words:
            raise ClusterError("--command is empty: give what to run, as --command='python launch/run.py --config=...'")
        for word in words:
            if word in _OPERATORS:
                raise ClusterError(
                    f"--command has {word!r}: no shell runs it. Give one command; launch/run.py runs all stages."
                )
            if word.partition("=")[0] in _ADDED:
                raise ClusterError(f"--command has {word!r}: leave it out, the job adds it.")

    @property
    def words(self) -> list[str]:
        """The command, split as a shell would, with nothing expanded."""
        try:
            return shlex.split(self.command)
        except ValueError as error:
            raise ClusterError(f"--command={self.command}: {error}. Close every quote.") from error


def bucket_of(workdir: str) -> tuple[str, str]:
    """Bucket and folder of `gs://BUCKET/FOLDER`, the only work directory that outlives machines of Google Cloud."""
    match = _BUCKET.fullmatch(workdir)
    if not match:
        raise ClusterError(
            f"--workdir={workdir}: a folder of one machine is out of reach for others and is lost with the machine. "
            "Give a folder in a bucket: gs://BUCKET/FOLDER."
        )
    return match[1], match[2]


def at_least_one(name: str, value: int) -> None:
    """Raises `ClusterError` when the flag `name` counts none."""
    if value < 1:
        raise ClusterError(f"--{name}={value}: give 1 or more.")


def heading(job: Job) -> str:
    """The comment lines that a rendered job begins with."""
    return f"# {job.name}: rendered by launch/cluster/render.py for {job.target}. See docs/clusters.md.\n"
