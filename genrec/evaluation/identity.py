"""Identity of an evaluation; folder and name of a variant, which changes what the model reads or how it ranks.

evaluation/                          the plain evaluation: the model reads all that it was trained to read
evaluation/history=0,without=all/    one without histories and without context features
"""

import dataclasses
import json
import urllib.parse
from typing import Any

from absl import logging
from etils import epath

from genrec import artifacts, config, files
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.evaluation import results
from genrec.input_pipeline import transitions
from genrec.input_pipeline.context import ALL
from genrec.models import checkpoints, user_context

LONGEST_NAME = 120  # characters of a folder; file systems allow 255 bytes


def of(loaded: LoadedGenerator, experiment: config.Experiment, workdir: epath.PathLike) -> dict[str, Any]:
    """Returns all that determines the figures of an evaluation, as JSON: equal identity, equal figures.

    `evaluation.batch`, `evaluation.sharded_table` and the mesh change none. All processes of a run call this.
    """
    cfg, workdir = experiment.evaluation, epath.Path(workdir)
    found = {
        "step": loaded.step,
        "parameters": checkpoints.fingerprint(loaded.params),  # checkpoints of other runs may have the same step
        "dataset": loaded.dataset.fingerprint,
        "semantic_ids": loaded.semantic_ids.fingerprint,
        "item_embeddings": _fingerprint(user_context.embeddings_file(workdir).parent),  # for the diversity of lists
        "beams": cfg.beams,
        "max_beams": max(cfg.beams, cfg.max_beams),
        "certify": cfg.certify,
        "exclude_history": cfg.exclude_history,
        "cutoffs": sorted(set(cfg.cutoffs)),
        "segments": sorted(set(cfg.segments)),
        "history": cfg.history,
        "withheld_features": sorted(set(cfg.withheld_features)),
        "request_time": cfg.request_time,
        "new_items_share": cfg.new_items_share,
        "item_knn": vars(experiment.item_knn),
        "transitions": _fingerprint(workdir / transitions.FOLDER),
        "sasrec": checkpoints.newest(workdir / checkpoints.SASREC),
    }
    return json.loads(files.to_json(found))


def is_done(folder: epath.PathLike, split: str, wanted: dict[str, Any]) -> bool:
    """Returns True if `folder` has the results of an evaluation with exactly this identity."""
    path = epath.Path(folder) / f"{split}.json"
    try:
        return path.exists() and files.read_json(path).get("identity") == wanted
    except files.DamagedError as problem:
        logging.warning("evaluating again, since this was found: %s", problem)
        return False


def folder(workdir: epath.PathLike, cfg: config.Evaluation) -> epath.Path:
    """Returns the folder of the results: `workdir/evaluation`, or one in it for a variant, named after its settings."""
    parts = []
    if cfg.history >= 0:
        parts.append(f"history={cfg.history}")
    if cfg.withheld_features:
        # Columns may have any name: what is no letter, digit or one of "_.-~" becomes %XX.
        names = (urllib.parse.quote(name, safe="") for name in sorted(set(cfg.withheld_features)))
        parts.append(f"without={'+'.join(names)}")
    if cfg.request_time:
        parts.append("request_time")
    if cfg.new_items_share:
        parts.append(f"new_items_share={cfg.new_items_share:g}")
    name = ",".join(parts)
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{artifacts.hash_of(name)}"
    return epath.Path(workdir) / results.FOLDER / name


def variant(cfg: config.Evaluation) -> list[str]:
    """Returns in words how an evaluation differs from the plain one; empty for the plain one."""
    words = []
    if cfg.history >= 0:
        words.append(f"history limited to {cfg.history} items" if cfg.history else "history withheld")
    if ALL in cfg.withheld_features:
        words.append("all features withheld")
    elif cfg.withheld_features:
        words.append(f"withheld features: {', '.join(sorted(set(cfg.withheld_features)))}")
    if cfg.request_time:
        words.append("with request-time features of the target")
    if cfg.new_items_share:
        words.append(f"a share of {cfg.new_items_share:g} of every list for new items")
    return words


def plain(cfg: config.Evaluation) -> config.Evaluation:
    """Returns the settings of the plain evaluation, by which training validates."""
    default = config.Evaluation()
    return dataclasses.replace(
        cfg,
        history=default.history,
        withheld_features=default.withheld_features,
        request_time=default.request_time,
        new_items_share=default.new_items_share,
    )


def require_plain(cfg: config.Evaluation, of: str) -> None:
    """Raises ConfigError for a variant; `of` is what has none."""
    if words := variant(cfg):
        raise config.ConfigError(
            f"{of} has no variants ({'; '.join(words)}). Leave out evaluation.history, withheld_features, request_time "
            "and new_items_share."
        )


def _fingerprint(path: epath.Path) -> str | None:
    """Returns the fingerprint of an artifact; None if it is not there."""
    manifest = path / artifacts.MANIFEST
    return files.read_json(manifest)["fingerprint"] if manifest.exists() else None
