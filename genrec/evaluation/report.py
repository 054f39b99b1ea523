"""The report of an evaluation: one self-contained HTML file of metrics, curves, segments, codes and example users.

It is made from the results in a work directory alone. The same files give the same report.
"""

import json
from collections.abc import Mapping
from typing import Any

import markupsafe
import numpy as np
import pyarrow as pa
from etils import epath

from genrec import artifacts, charts, files
from genrec.data.dataset import Dataset
from genrec.evaluation import metrics, results, templates
from genrec.ranking.popular import popularity
from genrec.semantic_ids.codes import SemanticIds
from genrec.serving import requests as user_requests

EXAMPLES = 3  # users whose target was found, and as many whose target was not
SHOWN = 10  # items of their histories and lists
SEGMENT_CUTOFF = 10
DECILES = 10
MOST_POINTS = 200  # of a curve
CURVES = {  # group of metrics.jsonl: label, and names
    "train": ("loss", ("loss",)),
    "validation": ("validation metric", ("recall@10", "ndcg@10", "recall@5", "ndcg@5")),
}

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
    figures = json.loads((folder / f"{split}.json").read_text())
    dataset = Dataset(workdir / "dataset")
    users = files.read_parquet(results.users_file(folder, split))
    text = templates.render(
        "report.html.jinja",
        title=f"{workdir.name}: step {figures['step']} on the {split} split",
        css=markupsafe.Markup(charts.css()),
        figures=figures,
        models=["model", *figures["baselines"]],
        result=_result(figures),
        training=_training(workdir),
        segments=_segments(figures),
        popularity=_popularity(users, dataset),
        codes=_codes(workdir),
        examples=_examples(users, dataset, split),
    )
    files.write_text(folder / f"{split}.html", text)
    return folder / f"{split}.html"


def _chart(figure: "charts.Figure", caption: str) -> dict[str, str]:
    return {"svg": markupsafe.Markup(charts.inline_svg(figure, caption)), "caption": caption}


def _segment_metric(figures: Figures) -> str:
    """Returns the name of the one metric that charts and segments show."""
    return f"recall@{max(cutoff for cutoff in metrics.cutoffs_of(figures['metrics']) if cutoff <= SEGMENT_CUTOFF)}"


def _result(figures: Figures) -> Figures:
    """Returns the metrics of all models, and those of the model if a hit were any item with the target's codes."""
    models = {"model": figures["metrics"], **figures["baselines"]}
    names = [f"{name}@{cutoff}" for name in metrics.NAMES for cutoff in metrics.cutoffs_of(figures["metrics"])]
    shown = _segment_metric(figures)
    bars = charts.bars([(model, [of_model[shown]]) for model, of_model in models.items()], [shown])
    return {
        "chart": _chart(bars, f"{shown} over all users"),
        "rows": [(n, [of_model[n] for of_model in models.values()], figures["semantic_id_metrics"][n]) for n in names],
    }


def _training(workdir: epath.Path) -> list[dict[str, str]] | None:
    """Returns the curves of training and validation; None if there is no log."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return None
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    found = []
    for group, (label, names) in CURVES.items():
        series = {n: [(row["step"], row[f"{group}/{n}"]) for row in rows if f"{group}/{n}" in row] for n in names}
        series = {name: points for name, points in series.items() if points}
        if series:
            found.append(_chart(charts.lines(series, "step", label), f"{group.capitalize()}: {', '.join(series)}"))
    return found


def _segments(figures: Figures) -> list[Figures]:
    """Returns for each segmentation its name, a chart, and the users, values and interval of each segment."""
    models, metric = ["model", *figures["baselines"]], _segment_metric(figures)
    found: list[Figures] = []
    for name, measured in figures["segments"].items():
        rows = []
        for row in measured:
            values = [row[model][metric] for model in models]
            low, high = _interval(values[0], row["users"])
            rows.append({"segment": row["segment"], "users": row["users"], "recalls": values, "low": low, "high": high})
        bars = charts.bars([(str(row["segment"]), row["recalls"]) for row in rows], models)
        found.append({"name": name, "chart": _chart(bars, f"{metric} by {name}"), "rows": rows})
    return found


def _interval(share: float, users: int) -> tuple[float, float]:
    """Returns the 95% interval of a share by Wilson (1927)."""
    z = 1.96
    middle = (share + z * z / (2 * users)) / (1 + z * z / users)
    half = z / (1 + z * z / users) * (share * (1 - share) / users + z * z / (4 * users * users)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _popularity(users: pa.Table, dataset: Dataset) -> dict[str, str]:
    """Returns a chart of how interactions, targets and lists are spread over tenths of the catalogue by popularity."""
    counts = popularity(dataset)
    decile = np.empty(len(counts), np.int64)
    decile[np.argsort(-counts, kind="stable")] = np.arange(len(counts)) * DECILES // len(counts)
    index = dataset.catalogue.index
    listed = np.array([index[item] for row in users["recommended"].to_pylist() for item in row[:SHOWN]], np.int64)
    targets = np.array([index[item] for item in users["target"].to_pylist()], np.int64)
    shares = {
        "training interactions": np.bincount(decile, weights=counts, minlength=DECILES) / max(1, counts.sum()),
        "targets": np.bincount(decile[targets], minlength=DECILES) / len(targets),
        "recommendations": np.bincount(decile[listed], minlength=DECILES) / max(1, len(listed)),
    }
    labels = ["most popular tenth", *(f"{n}. tenth" for n in range(2, DECILES)), "least popular tenth"]
    bars = charts.bars([(label, [s[n] for s in shares.values()]) for n, label in enumerate(labels)], list(shares))
    return _chart(bars, f"Tenths of the catalogue by popularity: their shares of the first {SHOWN} recommendations")


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


def _examples(users: pa.Table, dataset: Dataset, split: str) -> list[Figures]:
    """Returns a few users whose target is among the first of their list, and a few whose target is not in it."""
    ranks = users["rank"].to_numpy()
    random = np.random.default_rng(0)
    hits, misses = np.flatnonzero((ranks >= 1) & (ranks <= SHOWN)), np.flatnonzero(ranks == 0)
    chosen = [*random.permutation(hits)[:EXAMPLES], *random.permutation(misses)[:EXAMPLES]]
    rows = users.take(chosen).to_pylist()
    requests = user_requests.find_users(dataset.split(split), [row["user_id"] for row in rows]) if rows else []
    titles = dict(zip(dataset.catalogue.item_ids, dataset.catalogue.titles, strict=True))
    return [
        {
            "id": row["user_id"],
            "rank": row["rank"],
            "target": titles[row["target"]],
            "history": [dataset.catalogue.titles[item] for item in request.history[::-1][:SHOWN]],
            "recommended": [(titles[item], item == row["target"]) for item in row["recommended"][:SHOWN]],
        }
        for row, request in zip(rows, requests, strict=True)
    ]
