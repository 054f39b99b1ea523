"""The report of an evaluation: one self-contained HTML file of metrics, curves, segments, codes and example users.

It is made from the results in a work directory alone. The same files give the same report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec import artifacts, charts, files
from genrec.data.dataset import Dataset
from genrec.evaluation import (
    beyond_accuracy,
    metrics,
    provenance,
    results,
    significance,
    templates,
    training_curves,
)
from genrec.evaluation.training_curves import TrainingCurves
from genrec.ranking.popular import popularity
from genrec.semantic_ids.codes import SemanticIds
from genrec.serving import requests as user_requests

EXAMPLES = 3  # users whose target was found, and as many whose target was not
SHOWN = 10  # items of their histories and lists
DECILES = 10
MOST_POINTS = 200  # of a curve
VERDICTS = {"better than": "better", "worse than": "worse", "not clearly different from": "even"}  # classes of the page

Figures = Mapping[str, Any]


def write(workdir: epath.PathLike, split: str = "test", folder: epath.PathLike | None = None) -> epath.Path:
    """Writes `<split>.html` beside the results in `folder`, and returns its path.

    `folder` is by default `evaluation/` of the work directory. Raises ArtifactError if there is no evaluation of the
    split.
    """
    workdir = epath.Path(workdir)
    folder = epath.Path(folder or workdir / results.FOLDER)
    if not (folder / f"{split}.json").exists():
        raise artifacts.ArtifactError(
            f"{folder}: no evaluation of the {split} split. Run tools/evaluate_checkpoint.py first."
        )
    figures = files.read_json(folder / f"{split}.json")
    if "exclude_history" not in figures.get("identity", {}):
        raise artifacts.ArtifactError(
            f"{folder}: the evaluation of the {split} split is by another version of genrec. Run "
            "tools/evaluate_checkpoint.py again."
        )
    first, step = _first(figures), figures["identity"]["step"]
    names = [f"recall@{first}", f"ndcg@{first}"]
    training = training_curves.read(workdir, step, figures["run"]["best_metric"], names)
    dataset = Dataset(workdir / "dataset")
    users = results.users_file(folder, split)
    text = templates.render(
        "report.html.jinja",
        title=f"{figures['run']['config']}: step {step:,} on the {split} split",
        css=markupsafe.Markup(charts.css()),
        figures=figures,
        facts=_facts(figures, workdir, training),
        verdict=_verdict(figures),
        models=["model", *figures["baselines"]],
        result=_result(figures),
        training=None if training is None else [_chart(figure, caption) for figure, caption in training.charts],
        best=None if training is None else training.best,
        beyond_accuracy=_beyond_accuracy(figures),
        segments=_segments(figures),
        popularity=_popularity(users, dataset),
        codes=_codes(workdir),
        examples=_examples(users, dataset, split, figures["identity"]["history"]),
    )
    files.write_text(folder / f"{split}.html", text)
    return folder / f"{split}.html"


def _chart(figure: "charts.Figure", caption: str) -> dict[str, str]:
    return {"svg": markupsafe.Markup(charts.inline_svg(figure, caption)), "caption": caption}


def _first(figures: Figures) -> int:
    """Returns the cutoff of what charts, segments and the verdict show."""
    return metrics.shown_cutoff(metrics.cutoffs_of(figures["metrics"]))


def _facts(figures: Figures, workdir: epath.Path, training: TrainingCurves | None) -> dict[str, str]:
    """Returns what a reader must know before the figures: what was evaluated, how it was made, on what."""
    run, of, trained_on = figures["run"], figures["identity"], workdir / provenance.MACHINE
    seconds = None if training is None else training.seconds
    wider = f", up to {of['max_beams']:,}" if of["max_beams"] > of["beams"] else ""
    return {
        "Config": run["config"],
        "Work directory": workdir.name,
        "Checkpoint": f"step {of['step']:,} of {run['steps']:,}",
        "Evaluated": run["date"].replace("T", " ").replace("+00:00", " UTC"),
        "Users": f"{figures['users']:,}, {figures['split']} split",
        "Trained to read": ", ".join(["history", *run["context"]]),
        "Withheld or changed": "; ".join(figures["variant"]) or "nothing",
        "Items of the history": "excluded from all lists" if of["exclude_history"] else "kept: lists may repeat them",
        "Search": f"{of['beams']:,} beams{wider}",
        "Parameters": f"{run['parameters']:,}",
        "Training time": "not logged" if seconds is None else f"{_duration(seconds)}, without validations",
        "Trained on": _machine(files.read_json(trained_on)) if trained_on.exists() else "not recorded",
        "Evaluated on": _machine(run["machine"]),
        "Versions": f"genrec {run['version']}, JAX {run['machine']['jax']}, Python {run['machine']['python']}",
        "Dataset": of["dataset"],
        "Semantic IDs": of["semantic_ids"],
    }


def _machine(machine: Figures) -> str:
    devices = f"{machine['device_count']} x {', '.join(machine['devices'])}"
    return f"{devices} ({machine['system']}, {machine['cores']} cores)"


def _duration(seconds: float) -> str:
    """Returns a duration by its two largest units, such as "2 h 5 min"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _verdict(figures: Figures) -> Figures:
    """Returns a sentence that says what the model is better and worse than, and the differences behind it."""
    names = [f"recall@{_first(figures)}", f"ndcg@{_first(figures)}"]
    rows = []
    for baseline, compared in figures["comparisons"].items():
        differences = [(compared[name], VERDICTS[significance.verdict(compared[name])]) for name in names]
        rows.append({"baseline": baseline, "differences": differences})
    return {"sentence": figures["verdict"], "names": names, "rows": rows}


def _result(figures: Figures) -> Figures:
    """Returns the metrics of all models, and those of the model if a hit were any item with the target's codes."""
    models, intervals = {"model": figures["metrics"], **figures["baselines"]}, figures["intervals"]
    cutoffs = metrics.cutoffs_of(figures["metrics"])
    names = metrics.distinct(f"{name}@{cutoff}" for name in metrics.NAMES for cutoff in cutoffs)
    shown = f"recall@{_first(figures)}"
    bars = charts.bars(
        [(model, [of_model[shown]]) for model, of_model in models.items()],
        [shown],
        charts.MODEL_AND_BASELINES[:1] + charts.MODEL_AND_BASELINES[1:2] * (len(models) - 1),
        [intervals[model][shown] for model in models],
    )
    rows = [
        {
            "metric": name,
            "cells": [(of_model[name], *intervals[model][name]) for model, of_model in models.items()],
            "best": max(of_model[name] for of_model in models.values()),
            "by_codes": figures["semantic_id_metrics"][name],
        }
        for name in names
    ]
    return {"chart": _chart(bars, f"{shown} over all users, with 95% intervals"), "rows": rows}


def _segments(figures: Figures) -> list[Figures]:
    """Returns for each segmentation its name, a chart, and the users, values and interval of each segment."""
    models, metric = ["model", *figures["baselines"]], f"recall@{_first(figures)}"
    found: list[Figures] = []
    for name, measured in figures["segments"].items():
        rows = []
        for row in measured:
            values = [row[model][metric] for model in models]
            low, high = _interval(values[0], row["users"])
            rows.append({"segment": row["segment"], "users": row["users"], "recalls": values, "low": low, "high": high})
        labeled = [(str(row["segment"]), row["recalls"]) for row in rows]
        bars = charts.bars(labeled, models, charts.MODEL_AND_BASELINES, [(row["low"], row["high"]) for row in rows])
        found.append({"name": name, "chart": _chart(bars, f"{metric} by {name}"), "rows": rows})
    return found


def _interval(share: float, users: int) -> tuple[float, float]:
    """Returns the 95% interval of a share by Wilson (1927)."""
    z = 1.96
    middle = (share + z * z / (2 * users)) / (1 + z * z / users)
    half = z / (1 + z * z / users) * (share * (1 - share) / users + z * z / (4 * users * users)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _popularity(users: epath.Path, dataset: Dataset) -> dict[str, str]:
    """Returns a chart of how interactions, targets and lists are spread over tenths of the catalogue by popularity.

    `users` is the file of their lists.
    """
    counts = popularity(dataset)
    decile = np.empty(len(counts), np.int64)
    decile[np.argsort(-counts, kind="stable")] = np.arange(len(counts)) * DECILES // len(counts)
    item_ids = pa.array(dataset.catalogue.item_ids, pa.string())
    targets, listed = np.zeros((2, DECILES), np.int64)
    for batch in files.parquet_batches(users, ["target", "recommended"]):
        first = pc.list_slice(batch["recommended"], 0, SHOWN)
        for found, items in ((targets, batch["target"]), (listed, pc.list_flatten(first))):
            rows = pc.index_in(items, item_ids).to_numpy()
            found += np.bincount(decile[rows], minlength=DECILES)
    shares = {
        "training interactions": np.bincount(decile, weights=counts, minlength=DECILES) / max(1, counts.sum()),
        "targets": targets / targets.sum(),
        "recommendations": listed / max(1, listed.sum()),
    }
    ordinals = {2: "2nd", 3: "3rd"}
    middle = [f"{ordinals.get(n, f'{n}th')} tenth" for n in range(2, DECILES)]
    labels = ["most popular tenth", *middle, "least popular tenth"]
    rows = [(label, [share[n] for share in shares.values()]) for n, label in enumerate(labels)]
    model, one, another, *_ = charts.MODEL_AND_BASELINES
    bars = charts.bars(rows, list(shares), [one, another, model])
    return _chart(bars, f"Tenths of the catalogue by popularity: their shares of the first {SHOWN} recommendations")


def _beyond_accuracy(figures: Figures) -> list[tuple[str, str, list[float], float]]:
    """Returns for each metric its name, which direction is better, the values of all models, and the best of them."""
    by_model, rows = figures["beyond_accuracy"], []
    for name in by_model["model"]:
        better, values = beyond_accuracy.better(name), [of_model[name] for of_model in by_model.values()]
        rows.append((name, better, values, max(values) if better == "higher" else min(values)))
    return rows


def _codes(workdir: epath.Path) -> Figures:
    """Returns how often codes are used at each level, and how many items share their learned codes."""
    ids = SemanticIds.load(workdir / "semantic_ids")
    curves, levels = {}, []
    for level, size in enumerate(ids.sizes):
        counts = np.sort(np.bincount(ids.codes[:, level], minlength=size))[::-1]
        name = f"level {level + 1}" if level < ids.levels - 1 else "last level, which separates"
        levels.append({"name": name, "size": size, "used": (counts > 0).mean(), "most": int(counts[0])})
        if level < ids.levels - 1:
            places = range(0, size, max(1, size // MOST_POINTS))
            curves[name] = [(100 * n / max(1, size - 1), counts[n] * size / ids.items) for n in places]
    groups = np.unique(ids.codes[:, :-1], axis=0, return_counts=True)[1]
    lines = charts.lines(curves, "codes, % of the level, most used first", "times the even share")
    return {
        "chart": _chart(lines, "How often each code is used; a flat line at 1 would be even"),
        "levels": levels,
        "catalogue": ids.items,
        "shared": groups[groups > 1].sum() / ids.items,
        "largest_group": groups.max(),
    }


def _examples(users: epath.Path, dataset: Dataset, split: str, most_history: int) -> list[Figures]:
    """Returns a few users whose target is among the first of their list, and a few whose target is not in it.

    `users` is the file of their lists. The model read at most `most_history` items of their histories; -1 is no such
    limit.
    """
    shown_history = SHOWN if most_history < 0 else min(SHOWN, most_history)
    ranks = files.read_parquet(users, ["rank"])["rank"].to_numpy()
    random = np.random.default_rng(0)
    hits, misses = np.flatnonzero((ranks >= 1) & (ranks <= SHOWN)), np.flatnonzero(ranks == 0)
    chosen = [*random.permutation(hits)[:EXAMPLES], *random.permutation(misses)[:EXAMPLES]]
    rows = _rows(users, chosen)
    requests = user_requests.find_users(dataset.split(split), [row["user_id"] for row in rows]) if rows else []
    titles, index = dataset.catalogue.titles, dataset.catalogue.index
    return [
        {
            "id": row["user_id"],
            "rank": row["rank"],
            "target": titles[index[row["target"]]],
            "history": [titles[item] for item in request.history[::-1][:shown_history]],
            "recommended": [(titles[index[item]], item == row["target"]) for item in row["recommended"][:SHOWN]],
        }
        for row, request in zip(rows, requests, strict=True)
    ]


def _rows(users: epath.Path, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the chosen rows of a file of users' lists, in the order given."""
    found, first = {}, 0
    for batch in files.parquet_batches(users, ["user_id", "rank", "target", "recommended"]):
        for row in chosen:
            if first <= row < first + len(batch):
                found[row] = batch.slice(row - first, 1).to_pylist()[0]
        first += len(batch)
    return [found[row] for row in chosen]
