"""Targets on clusters, and rendering of a job or a server from named settings."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from genrec.cluster import deployment, jobset, slurm, tpu_vm
from genrec.cluster.job import ClusterError, Target

TARGETS: dict[str, tuple[type[Target], Callable[[Any], str]]] = {
    "gke": (jobset.GkeJob, jobset.render),
    "tpu_vm": (tpu_vm.TpuVmJob, tpu_vm.render),
    "slurm": (slurm.SlurmJob, slurm.render),
    "serve": (deployment.Server, deployment.render),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Setting of one or several targets."""

    type: type  # str, int or bool
    description: str  # ends in the targets that have it, if not all do


def settings() -> dict[str, Setting]:
    """Returns all settings by name."""
    descriptions: dict[str, dict[str, list[str]]] = {}  # name -> description -> targets
    kinds = {}
    for target, (job_type, _) in TARGETS.items():
        hints = typing.get_type_hints(job_type)
        for field in dataclasses.fields(job_type):
            kinds[field.name] = _without_none(hints[field.name])
            descriptions.setdefault(field.name, {}).setdefault(field.metadata["description"], []).append(target)
    return {
        name: Setting(
            kinds[name],
            " ".join(
                text if len(targets) == len(TARGETS) else f"{text} ({', '.join(targets)})"
                for text, targets in texts.items()
            ),
        )
        for name, texts in descriptions.items()
    }


def make(target: str, given: Mapping[str, Any]) -> Target:
    """Returns the job or server of a target of `TARGETS` with values of settings by name; others keep defaults.

    Raises ClusterError if a setting is missing, invalid, or of another target.
    """
    job_type, _ = TARGETS[target]
    fields = {field.name: field for field in dataclasses.fields(job_type)}
    for name in given:
        if name not in fields:
            others = ", ".join(other for other, (kind, _) in TARGETS.items() if name in kind.__dataclass_fields__)
            raise ClusterError(f"--{name} is a setting of {others}, not of {target}. Remove it.")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in given:
            raise ClusterError(f"--{name} is missing. {field.metadata['description']}")
    return job_type(**given)


def render(target: str, given: Mapping[str, Any]) -> str:
    """Returns the job or server of `make` as text: a manifest for kubectl, or a script for bash or sbatch."""
    _, render_job = TARGETS[target]
    return render_job(make(target, given))


def _without_none(hint: Any) -> type:
    """Returns the type T of a hint `T` or `T | None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = (option for option in typing.get_args(hint) if option is not type(None))
    return hint
