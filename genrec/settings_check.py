"""Checks of settings before any work: names, types, ranges, and settings that contradict each other."""

import dataclasses
import datetime
import functools
import os
import typing
from collections.abc import Callable, Iterator

from genrec import config, shares
from genrec.config import ConfigError
from genrec.errors import shown
from genrec.settings import PATH, Setting, nearest

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


@functools.cache
def _fields(section: type["DataclassInstance"]) -> dict[str, tuple[object, Setting | None]]:
    """Returns type and declaration of each field of a dataclass by name; the declaration is None for a section."""
    kinds = typing.get_type_hints(section)
    return {field.name: (kinds[field.name], field.metadata.get("setting")) for field in dataclasses.fields(section)}


def flat_fields(section: type["DataclassInstance"], name: str = "") -> Iterator[tuple[str, object, Setting]]:
    """Yields the dotted name, the type and the declaration of each setting of a section and of those in it."""
    for own, (kind, declared) in _fields(section).items():
        if declared is not None:
            yield name + own, kind, declared
        else:
            yield from flat_fields(typing.cast("type[DataclassInstance]", kind), f"{name}{own}.")


def check(settings: "DataclassInstance", name: str = "") -> None:
    """Raises ConfigError for the first setting that is unknown, of another type, or out of its range.

    Then for settings that contradict each other. `name` is that of a section, such as "training".
    """
    prefix = f"{name}." if name else ""
    check_names(settings, prefix)
    _check_values(settings, prefix)
    _check_together(settings, prefix)


def expand_user(settings: "DataclassInstance") -> None:
    """Replaces, in place, `~` at the beginning of all paths of a section and of those in it."""
    for name, (_, declared) in _fields(type(settings)).items():
        value = getattr(settings, name)
        if declared is None:
            expand_user(value)
        elif declared.text == PATH:
            setattr(settings, name, os.path.expanduser(value))  # noqa: PTH111  # Path would change gs://


def check_names(settings: "DataclassInstance", prefix: str = "") -> None:
    """Raises ConfigError for a name that is no setting, and for a section of another type."""
    declared = _fields(type(settings))
    for name, value in vars(settings).items():
        if name not in declared:
            raise ConfigError(f"there is no setting {prefix}{name}{nearest(name, list(declared))}")
        kind, setting = declared[name]
        if setting is None and type(value) is not kind:
            raise ConfigError(f"{prefix}{name}={shown(value)}: give a genrec.config.{getattr(kind, '__name__', kind)}")
        if setting is None:
            check_names(value, f"{prefix}{name}.")


def _check_values(settings: "DataclassInstance", prefix: str) -> None:
    for name, (kind, setting) in _fields(type(settings)).items():
        value = getattr(settings, name)
        if setting is None:
            _check_values(value, f"{prefix}{name}.")
        elif problem := setting.problem(kind, value):
            raise ConfigError(f"{prefix}{name}={shown(value)}: {problem}")


def _check_together(settings: "DataclassInstance", prefix: str) -> None:
    if check_one := _TOGETHER.get(type(settings)):
        check_one(settings, prefix)
    for name, (_, setting) in _fields(type(settings)).items():
        if setting is None:
            _check_together(getattr(settings, name), f"{prefix}{name}.")


def _data(cfg: config.Data, prefix: str) -> None:
    if shares.exact(cfg.validation_fraction) + shares.exact(cfg.test_fraction) >= 1:
        raise ConfigError(
            f"{prefix}validation_fraction={cfg.validation_fraction} and {prefix}test_fraction={cfg.test_fraction} must "
            "be below 1 together"
        )
    if cfg.time_format and cfg.time_unit:
        raise ConfigError(f"{prefix}time_format and {prefix}time_unit: times have the one or the other")
    if cfg.time_format and (problem := _format_problem(cfg.time_format)):
        raise ConfigError(f"{prefix}time_format={shown(cfg.time_format)}: {problem}, as in %Y-%m-%d %H:%M:%S")


def _format_problem(form: str) -> str:
    """Returns why a format of strptime reads no times, empty if it does."""
    example = datetime.datetime(2024, 5, 31, 18, 30, tzinfo=datetime.UTC)
    try:
        read = datetime.datetime.strptime(example.strftime(form), form)
    except ValueError as error:
        return f"Python's strptime cannot read it ({error})"
    return "" if read.year == example.year else "it has no year"


def _model(cfg: config.Model, prefix: str) -> None:
    if cfg.position_max_distance <= cfg.position_buckets // 2:
        raise ConfigError(
            f"{prefix}position_max_distance={cfg.position_max_distance} must be more than half of "
            f"{prefix}position_buckets={cfg.position_buckets}"
        )


def _sasrec_model(cfg: config.SasRecModel, prefix: str) -> None:
    _model(cfg, prefix)
    if cfg.frequency_filter > 0 and cfg.architecture != "bert":
        raise ConfigError(f"{prefix}frequency_filter={cfg.frequency_filter} needs {prefix}architecture=bert")


def _prompts(cfg: config.Prompts, prefix: str) -> None:
    if cfg.pretrained and cfg.from_content:
        raise ConfigError(f"{prefix}pretrained and {prefix}from_content both initialize the model: choose one of them")
    for names in (("next_item", "any_item", "attributes", "title"), ("item_title", "item_attributes", "taste")):
        if not any(getattr(cfg, name) for name in names):
            raise ConfigError(f"{', '.join(prefix + name for name in names)}=0: one of these weights must be above 0")


def _training(cfg: config.Training, prefix: str) -> None:
    if cfg.warmup_steps >= cfg.steps:
        raise ConfigError(f"{prefix}warmup_steps={cfg.warmup_steps} must be below {prefix}steps={cfg.steps}")


def _mesh(cfg: config.Mesh, prefix: str) -> None:
    if (cfg.data, cfg.fsdp, cfg.tensor).count(-1) > 1:
        raise ConfigError(
            f"{prefix}data={cfg.data}, {prefix}fsdp={cfg.fsdp}, {prefix}tensor={cfg.tensor}: only one may be -1, for "
            "the remaining devices"
        )


def _evaluation(cfg: config.Evaluation, prefix: str) -> None:
    if 0 < cfg.max_beams < cfg.beams:
        raise ConfigError(
            f"{prefix}max_beams={cfg.max_beams} must be at least {prefix}beams={cfg.beams}, or 0 to never widen the "
            "search"
        )
    if min(cfg.cutoffs) > cfg.beams:
        raise ConfigError(
            f"{prefix}cutoffs={cfg.cutoffs} are all above {prefix}beams={cfg.beams}, the length of the lists"
        )


def _final_scoring(cfg: config.FinalScoring, prefix: str) -> None:
    if cfg.max_share < 1 and not cfg.share_of:
        raise ConfigError(f"{prefix}max_share={cfg.max_share} needs {prefix}share_of, a column of the items")


# The settings of a section that restrict each other.
_TOGETHER: dict[type, Callable[[typing.Any, str], None]] = {  # each takes its own section
    config.Data: _data,
    config.Model: _model,
    config.SasRecModel: _sasrec_model,
    config.Prompts: _prompts,
    config.Training: _training,
    config.Mesh: _mesh,
    config.Evaluation: _evaluation,
    config.FinalScoring: _final_scoring,
}
