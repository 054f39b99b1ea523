"""Provenance of an evaluation: config and its changed settings, model, versions, machine and date."""

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

import genrec
from genrec import artifacts, files
from genrec.config import Experiment
from genrec.decoding.loaded_model import LoadedGenerator

MACHINE = "machine.json"  # of a work directory: the machine that trained last, as `machine` returns it
STAGES = {"data": "dataset", "embeddings": "item_embeddings", "semantic_ids": "semantic_ids"}  # settings: folder


def describe(loaded: LoadedGenerator, experiment: Experiment, workdir: epath.PathLike) -> dict[str, Any]:
    """Returns the description of a checkpoint and of this process, as JSON."""
    record = loaded.record
    return {
        "config": experiment.name,
        "changed_settings": changed_settings(loaded, experiment, workdir),
        "context": loaded.tokenizer.context.names,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(loaded.params)),
        "steps": record.training["steps"],
        "best_metric": record.training["best_metric"],
        "version": genrec.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }


def changed_settings(loaded: LoadedGenerator, experiment: Experiment, workdir: epath.PathLike) -> dict[str, Any]:
    """Returns the settings, by dotted name, that differ from genrec's defaults.

    Those of the stages are what their artifacts and the checkpoint were made with, whatever `experiment` says.
    """
    record = loaded.record
    used: dict[str, Any] = {name: _config_of(epath.Path(workdir) / folder) for name, folder in STAGES.items()}
    used |= {"seed": record.seed, "model": record.model, "training": record.training, "prompts": record.prompts}
    used |= {name: dataclasses.asdict(getattr(experiment, name)) for name in ("evaluation", "item_knn")}
    defaults = _flat(json.loads(files.to_json(dataclasses.asdict(Experiment()))))
    values = _flat(json.loads(files.to_json(used)))
    return {name: value for name, value in values.items() if name in defaults and value not in (defaults[name], None)}


def machine() -> dict[str, Any]:
    """Returns the hardware and the versions of this process."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "devices": sorted({device.device_kind for device in jax.devices()}),
        "device_count": jax.device_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


def _config_of(folder: epath.Path) -> Mapping[str, Any]:
    """Returns the settings that an artifact was made with; none if it is not there."""
    manifest = folder / artifacts.MANIFEST
    return files.read_json(manifest)["config"] if manifest.exists() else {}


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
