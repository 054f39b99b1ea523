"""An evaluation as one HTML file that needs nothing else: figures, curves, segments, examples.

Made from what the stages left in the work directory, so it can be made again at any time, and on any machine; the same
files give the same report.
"""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet
from etils import epath

from genrec import artifacts, files
from genrec.data.dataset import Dataset
from genrec.evaluation import charts, metrics, results
from genrec.evaluation.report_style import STYLE
from genrec.ranking.popular import popularity
from genrec.semantic_ids.codes import SemanticIds
from genrec.serving import requests as user_requests

EXAMPLES = 3  # users whose item was found, and as many whose item was not
SHOWN = 10  # items of their histories and lists
SEGMENT_CUTOFF = 10
DECILES = 10

Figures = Mapping[str, Any]


def write(workdir: epath.PathLike, split: str = "test", folder: epath.PathLike | None = None) -> epath.Path:
    """Writes `<split>.html` into `folder`, beside the results that it shows, and returns its path.

    `folder` is by default `evaluation/` of the work directory.

    Raises ArtifactError where there is no evaluation of the split.
    """
    workdir = epath.Path(workdir)
    folder = epath.Path(folder or workdir / results.FOLDER)
    if not (folder / f"{split}.json").exists():
        raise artifacts.ArtifactError(
            f"{folder}: no evaluation of the {split} split. Run tools/evaluate_checkpoint.py first."
        )
    figures = json.loads((folder / f"{split}.json").read_text())
    dataset = Dataset(workdir / "dataset")
    with results.users_file(folder, split).open("rb") as file:
        users = pyarrow.parquet.read_table(file)
    sections: list[tuple[str, Callable[[], str]]] = [
        ("Result", lambda: _result(figures)),
        ("Training", lambda: _training(workdir)),
        ("Segments", lambda: _segments(figures)),
        ("Popularity", lambda: _popularity(figures, users, dataset)),
        ("Semantic IDs", lambda: _semantic_ids(workdir)),
        ("Examples", lambda: _examples(users, dataset, split)),
    ]
    path = folder / f"{split}.html"
    files.write_text(path, _page(figures, workdir.name, split, sections))
    return path


def _page(figures: Figures, name: str, split: str, sections: Sequence[tuple[str, Callable[[], str]]]) -> str:
    title = f"{name}: step {figures['step']} on the {split} split"
    body, links = [], []
    for heading, make in sections:
        anchor = heading.lower().replace(" ", "-")
        links.append(f'<a href="#{anchor}">{heading}</a>')
        body.append(f'<section id="{anchor}"><h2>{heading}</h2>{make()}</section>')
    about = " · ".join(
        f"{label} <code>{html.escape(str(figures[key]))}</code>"
        for label, key in (("dataset", "dataset"), ("semantic IDs", "semantic_ids"), ("beams", "beams"))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>'
        f"<header><h1>{html.escape(title)}</h1><p>{figures['users']:,} users · {about}</p></header>"
        f"<nav>{''.join(links)}</nav><main>{''.join(body)}</main></body></html>\n"
    )


def _result(figures: Figures) -> str:
    """Metrics beside those of the baselines, the inflated ones, and what lists are like."""
    models = {"model": figures["metrics"], **figures["baselines"]}
    inflated = figures["semantic_id_metrics"]
    rows = []
    for name in metrics.NAMES:
        for cutoff in metrics.cutoffs_of(figures["metrics"]):
            metric = f"{name}@{cutoff}"
            values = [of_model[metric] for of_model in models.values()]
            cells = [f"<b>{v:.4f}</b>" if v == max(values) else f"{v:.4f}" for v in values]
            rows.append([metric, *cells, f"{inflated[metric]:.4f}"])
    first = f"recall@{max(cutoff for cutoff in metrics.cutoffs_of(figures['metrics']) if cutoff <= SEGMENT_CUTOFF)}"
    picture = charts.bars([(name, [of_model[first]]) for name, of_model in models.items()], [first], first)
    sure = ", ".join(f"{share:.1%} of the first {cutoff}" for cutoff, share in figures["certified"].items())
    return (
        _figure(picture, f"{first} over all users")
        + _table(["", *models, "by codes only"], rows, "Item-exact: a hit is the item itself")
        + "<p>The last column counts any item with the target's learned codes as a hit, as some public evaluations do. "
        "It is no result; it shows how much that inflates.</p>"
        f"<p>Of the returned items {figures['valid']:.0%} are valid; {figures['short_lists']:.1%} of the lists are cut "
        f"short. Surely the model's best list of all items: {sure}.</p>"
    )


def _training(workdir: epath.Path) -> str:
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return "<p>There is no <code>metrics.jsonl</code> in the work directory.</p>"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    found = []
    for group, names, label in (
        ("train", ("loss",), "loss"),
        ("validation", ("recall@10", "ndcg@10", "recall@5", "ndcg@5"), "validation metric"),
    ):
        series = {}
        for name in names:
            points = [(row["step"], row[f"{group}/{name}"]) for row in rows if f"{group}/{name}" in row]
            if points:
                series[name] = points
        if series:
            picture = charts.lines(series, f"{group}: {', '.join(series)}", "step", label)
            found.append(_figure(picture, f"{group.capitalize()}: {', '.join(series)}"))
    return _side_by_side(found) if found else "<p>Nothing was logged.</p>"


def _segments(figures: Figures) -> str:
    models = ["model", *figures["baselines"]]
    cutoffs = metrics.cutoffs_of(figures["metrics"])
    metric = f"recall@{max(cutoff for cutoff in cutoffs if cutoff <= SEGMENT_CUTOFF)}"
    found = []
    for name, rows in figures["segments"].items():
        picture = charts.bars(
            [(str(row["segment"]), [row[model][metric] for model in models]) for row in rows],
            models,
            f"{metric} by {name}",
        )
        cells = [
            [
                html.escape(str(row["segment"])),
                f"{row['users']:,}",
                _interval(row["model"][metric], row["users"]),
                *(f"{row[model][metric]:.4f}" for model in models[1:]),
            ]
            for row in rows
        ]
        table = _table(["segment", "users", "model, 95% interval", *models[1:]], cells, f"{metric} by {name}")
        both = _side_by_side([_figure(picture, f"{metric} by {name}"), table])
        found.append(f"<h3>{html.escape(name)}</h3>{both}")
    return "".join(found)


def _interval(share: float, users: int) -> str:
    """A share with its 95% interval by Wilson (1927)."""
    z = 1.96
    middle = (share + z * z / (2 * users)) / (1 + z * z / users)
    half = z / (1 + z * z / users) * (share * (1 - share) / users + z * z / (4 * users * users)) ** 0.5
    return f"{share:.4f} <small>{max(0.0, middle - half):.4f}-{min(1.0, middle + half):.4f}</small>"


def _popularity(figures: Figures, users: pyarrow.Table, dataset: Dataset) -> str:
    """Which tenth of the catalogue, by popularity, gets how much of the lists and of the targets."""
    counts = popularity(dataset)
    decile = np.empty(len(counts), np.int64)
    decile[np.argsort(-counts, kind="stable")] = np.arange(len(counts)) * DECILES // len(counts)
    index = dataset.catalogue.index
    lists = users["recommended"].to_pylist()
    listed = np.array([index[item] for row in lists for item in row[:SHOWN]], np.int64)
    targets = np.array([index[item] for item in users["target"].to_pylist()], np.int64)
    shares = [
        np.bincount(decile, weights=counts, minlength=DECILES) / max(1, counts.sum()),
        np.bincount(decile[targets], minlength=DECILES) / len(targets),
        np.bincount(decile[listed], minlength=DECILES) / max(1, len(listed)),
    ]
    labels = ["most popular tenth", *(f"{n}. tenth" for n in range(2, DECILES)), "least popular tenth"]
    names = ["training interactions", "items that target", "recommendations"]
    rows = [(label, [float(share[n]) for share in shares]) for n, label in enumerate(labels)]
    beyond = figures["beyond_accuracy"]
    kinds = list(next(iter(beyond.values())))
    cells = [[kind, *(f"{of_model[kind]:.4f}" for of_model in beyond.values())] for kind in kinds]
    return _figure(
        charts.bars(rows, names, "popularity of what is recommended"),
        f"Tenths of the catalogue by popularity: their shares of the first {SHOWN} recommendations",
    ) + _table(["", *beyond], cells, "Coverage and Gini of the catalogue, novelty in bits, diversity within lists")


def _semantic_ids(workdir: epath.Path) -> str:
    folder = workdir / "semantic_ids"
    ids = SemanticIds.load(folder)
    curves, rows = {}, []
    for level, size in enumerate(ids.sizes):
        counts = np.bincount(ids.codes[:, level], minlength=size)
        name = f"level {level + 1}" if level < ids.levels - 1 else "last level, which separates"
        curves[name] = (counts / counts.sum() * size).tolist()
        rows.append([name, f"{size:,}", f"{(counts > 0).mean():.1%}", f"{counts.max():,}"])
    groups = np.unique(ids.codes[:, :-1], axis=0, return_counts=True)[1]
    shared = groups[groups > 1].sum() / ids.items
    learned = dict(list(curves.items())[:-1])
    picture = charts.steps(learned, "usage of codes", "codes, % of the level, most used first", "times the even share")
    return (
        _figure(picture, "How often each code is used; a flat line at 1 would be even")
        + _table(["level", "codes", "used", "items of the most used"], rows, "Codes of each level")
        + f"<p>{shared:.1%} of the {ids.items:,} items share their learned codes with another; the largest such group "
        f"has {groups.max()} items.</p>"
    )


def _examples(users: pyarrow.Table, dataset: Dataset, split: str) -> str:
    """Users whose item stands among the first, and users whose item is not in the list."""
    ranks = users["rank"].to_numpy()
    random = np.random.default_rng(0)
    hits, misses = np.flatnonzero((ranks >= 1) & (ranks <= SHOWN)), np.flatnonzero(ranks == 0)
    chosen = [*random.permutation(hits)[:EXAMPLES], *random.permutation(misses)[:EXAMPLES]]
    rows = users.take(chosen).to_pylist()
    requests = user_requests.find_users(dataset.split(split), [row["user_id"] for row in rows]) if rows else []
    titles = dict(zip(dataset.catalogue.item_ids, dataset.catalogue.titles, strict=True))
    found = []
    for row, request in zip(rows, requests, strict=True):
        history = [dataset.catalogue.titles[item] for item in request.history[::-1][:SHOWN]]
        proposed = [
            f'<li class="hit">{html.escape(titles[item])} <small>target</small></li>'
            if item == row["target"]
            else f"<li>{html.escape(titles[item])}</li>"
            for item in row["recommended"][:SHOWN]
        ]
        verdict = f"found at place {row['rank']}" if row["rank"] else "not found"
        past = "".join(f"<li>{html.escape(title)}</li>" for title in history)
        found.append(
            f'<article class="example"><h3>{html.escape(row["user_id"])} <small>{verdict}</small></h3>'
            f"<p>Came next: <b>{html.escape(titles[row['target']])}</b></p>"
            f'<div class="columns"><div><h4>History, newest first</h4><ol>{past}</ol></div>'
            f"<div><h4>Recommended</h4><ol>{''.join(proposed)}</ol></div></div></article>"
        )
    return "".join(found)


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _side_by_side(figures: Sequence[str]) -> str:
    return f'<div class="columns">{"".join(figures)}</div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """`rows` are HTML, `head` and `caption` are text."""
    names = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
