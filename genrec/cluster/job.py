"""Settings that targets share: a name, and of jobs a command and a work directory that outlives the machines."""

import dataclasses
import re
import shlex
from typing import Any, ClassVar

from genrec.errors import GenrecError

MOUNT = "/bucket"  # mount point of the work directory's bucket

CACHE = "compiled"  # folder of the work directory with compiled functions, which a restarted job need not compile again

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.+)")
_ADDED = ("--workdir", "--distributed")  # flags that the job adds
_OPERATORS = ("&&", "||", ";", "|", "&", ">", ">>", "<")


class ClusterError(GenrecError):
    """Error in the settings of a job. The message names the flag and says what to give."""


def setting(description: str, default: Any = dataclasses.MISSING) -> Any:
    """Returns a field of a job, for which `launch/cluster/render.py` defines a flag of the same name and type."""
    return dataclasses.field(default=default, metadata={"description": description})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Settings of all targets, to which each adds its own; raises `ClusterError` if what is rendered could not run."""

    target: ClassVar[str]
    guide: ClassVar[str] = "docs/clusters.md"

    name: str = setting("Name of the job or server: lower-case letters, digits and hyphens, at most 40.")

    def __post_init__(self):
        if not _NAME.fullmatch(self.name):
            raise ClusterError(
                f"--name={self.name}: invalid name. Give at most 40 lower-case letters, digits and hyphens that "
                "begin with a letter and do not end with a hyphen (RFC 1123), such as quickstart-v5e."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(Target):
    """Settings of jobs, which run a command to its end."""

    command: str = setting("Command to run, quoted as for a shell; --workdir is added to it.")
    workdir: str = setting("Work directory, a folder or bucket that all hosts reach and that outlives the job.")
    restarts: int = setting("Maximum restarts after crashes (by default 10); preemptions do not count.", 10)

    def __post_init__(self):
        super().__post_init__()
        if not self.workdir.strip():
            raise ClusterError("--workdir is empty. Give a folder or bucket that all hosts reach.")
        if self.restarts < 0:
            raise ClusterError(f"--restarts must be at least 0, got {self.restarts}.")
        words = self.words
        if not words:
            raise ClusterError("--command is empty. Give one, such as --command='python launch/run.py --config=...'")
        for word in words:
            if word in _OPERATORS:
                raise ClusterError(
                    f"--command has {word!r}, but no shell runs it. Give one command; launch/run.py runs all stages."
                )
            if word.partition("=")[0] in _ADDED:
                raise ClusterError(f"--command has {word!r}: leave it out, the job adds it.")

    @property
    def words(self) -> list[str]:
        """Words of the command, split as by a shell, without expansions."""
        try:
            return shlex.split(self.command)
        except ValueError as error:
            raise ClusterError(f"--command={self.command}: {error}. Close every quote.") from error


def bucket_of(workdir: str, flag: str = "workdir") -> tuple[str, str]:
    """Returns bucket and folder of `gs://BUCKET/FOLDER`, the value of a flag; raises `ClusterError` for other paths."""
    match = _BUCKET.fullmatch(workdir)
    if not match:
        raise ClusterError(
            f"--{flag}={workdir}: other machines cannot reach a local folder, and it is lost with its machine. Give a "
            "folder in a bucket: gs://BUCKET/FOLDER."
        )
    return match[1], match[2]


def at_least_one(name: str, value: int) -> None:
    """Raises `ClusterError` if the value of the flag `name` is below 1."""
    if value < 1:
        raise ClusterError(f"--{name} must be at least 1, got {value}.")


def check_image(image: str) -> None:
    """Raises `ClusterError` if `--image` is empty or has spaces around it."""
    if not image or image != image.strip():
        raise ClusterError(f"--image={image!r}: give the image that `docker push` wrote, REGISTRY/NAME:TAG.")


def heading(rendered: Target) -> str:
    """Returns the comment at the top of what is rendered."""
    return f"# {rendered.name}: rendered by launch/cluster/render.py for {rendered.target}. See {rendered.guide}.\n"
