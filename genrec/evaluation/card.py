"""The reproduction card: what several seeds of a config reached, beside baselines, and what it takes to repeat it.

Means and sample deviations over seeds say what another seed would give; the paired bootstrap over users, of their
figures averaged over seeds, says what other users would.
"""

import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pyarrow.parquet
from etils import epath

from genrec import files as file_io
from genrec.config import Experiment
from genrec.data.errors import DataError
from genrec.evaluation import results, significance
from genrec.evaluation.significance import Comparison
from genrec.ranking import assembly

SPLIT = "test"
MODEL, HYBRID = "genrec", "hybrid"
SHOWN = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def write(
    folder: epath.PathLike, seeds: Sequence[epath.PathLike], experiment: Experiment, commands: Sequence[str]
) -> str:
    """Writes `card.json` and `card.md` into `folder` and returns the latter.

    `seeds` are the work directories of the seeds, each with `evaluation/` and `pipeline/`; `commands` what made them.
    Raises DataError where one lacks its results, or where they are of different data.
    """
    folder, seeds = epath.Path(folder), [epath.Path(seed) for seed in seeds]
    runs = [_read(seed) for seed in seeds]
    fingerprints = [run["figures"]["dataset"] for run in runs]
    if len(set(fingerprints)) > 1:
        raise DataError(f"the seeds in {folder} were evaluated on different datasets: {', '.join(fingerprints)}.")
    card = {
        "name": experiment.name,
        "split": SPLIT,
        "users": runs[0]["figures"]["users"],
        "seeds": len(seeds),
        "metrics": summarize([run["metrics"] for run in runs]),
        "comparisons": _compare(seeds, runs),
        "stages": [run["stages"] for run in runs],
        "semantic_id_metrics": summarize([{MODEL: run["figures"]["semantic_id_metrics"]} for run in runs])[MODEL],
        "fingerprints": [{name: run["figures"][name] for name in ("step", "dataset", "semantic_ids")} for run in runs],
        "settings": dataclasses.asdict(experiment),
        "commands": list(commands),
        "machine": machine(),
    }
    file_io.write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")
    text = markdown(card)
    file_io.write_text(folder / "card.md", text)
    return text


def summarize(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By model and metric the `mean`, the sample `deviation` (None for one run), and all `values`.

    `runs` are the metrics by model of each seed. Models that not all of them have are left out.
    """
    models = [model for model in runs[0] if all(model in run for run in runs)]
    return {
        model: {
            metric: {
                "mean": statistics.mean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "values": values,
            }
            for metric in runs[0][model]
            for values in [[run[model][metric] for run in runs]]
        }
        for model in models
    }


def machine() -> dict[str, Any]:
    """Of this process: hardware as far as it is known, and versions."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "devices": sorted({device.device_kind for device in jax.devices()}),
        "device_count": jax.device_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    many = card["seeds"] > 1

    def cell(value: dict[str, Any]) -> str:
        return f"{value['mean']:.4f} ± {value['deviation']:.4f}" if many else f"{value['mean']:.4f}"

    metrics = [name for name in SHOWN if name in next(iter(card["metrics"].values()))]
    lines = [
        f"# {card['name']}, {card['split']} split",
        "",
        f"{card['users']:,} users, item-exact, the whole catalogue ranked. "
        + (f"Mean and sample deviation over {card['seeds']} seeds." if many else "One seed."),
        "",
        *_table(["", *metrics], [[m, *(cell(of[name]) for name in metrics)] for m, of in card["metrics"].items()]),
        "",
        "If items with the same learned codes counted as hits, which they do not, genrec would have "
        + ", ".join(f"{name} {cell(card['semantic_id_metrics'][name])}" for name in metrics)
        + ".",
        "",
        "## Differences",
        "",
        "Of users' figures averaged over seeds, with 95% intervals and p-values by the paired bootstrap over users.",
        "",
        *_table(
            ["", *metrics],
            [
                [
                    pair,
                    *(
                        f"{of[n]['difference']:+.4f} [{of[n]['low']:+.4f}, {of[n]['high']:+.4f}], p {of[n]['p']:.4f}"
                        for n in metrics
                    ),
                ]
                for pair, of in card["comparisons"].items()
            ],
        ),
        "",
        "## Stages of the first seed",
        "",
        *_stages(card["stages"][0]),
        "",
        "## How to repeat it",
        "",
        *(f"    {command}" for command in card["commands"]),
        "",
        *_table(
            ["seed", "step", "dataset", "semantic IDs"],
            [[str(n), str(f["step"]), f["dataset"], f["semantic_ids"]] for n, f in enumerate(card["fingerprints"])],
        ),
        "",
        "Machine: " + ", ".join(f"{name} {value}" for name, value in card["machine"].items()) + ".",
        "",
        "<details><summary>Settings</summary>",
        "",
        "```json",
        json.dumps(card["settings"], indent=1),
        "```",
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def _read(seed: epath.Path) -> dict[str, Any]:
    files = {"figures": seed / results.FOLDER / f"{SPLIT}.json", "pipeline": seed / assembly.FOLDER / f"{SPLIT}.json"}
    for path in files.values():
        if not path.exists():
            raise DataError(f"{path} is not there: this seed is not finished. Run launch/reproduce.py again.")
    figures, staged = (json.loads(path.read_text()) for path in files.values())
    metrics = {MODEL: figures["metrics"], **figures["baselines"], HYBRID: staged["metrics"]}
    return {"figures": figures, "stages": staged["stages"], "metrics": metrics}


def _compare(seeds: Sequence[epath.Path], runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The paired bootstrap of the model against each baseline, and of the hybrid against all."""
    names = [name for name in runs[0]["metrics"] if name not in (MODEL, HYBRID)]
    files = {MODEL: f"{results.FOLDER}/{SPLIT}_users.parquet", HYBRID: f"{assembly.FOLDER}/{SPLIT}_users.parquet"}
    files |= {name: str(results.baseline_file(results.FOLDER, SPLIT, name)) for name in names}
    ranks = {name: np.stack([_ranks(seed / file) for seed in seeds]) for name, file in files.items()}
    cutoffs = sorted({int(name.partition("@")[2]) for name in SHOWN})
    pairs = [(MODEL, name) for name in names] + [(HYBRID, name) for name in (MODEL, *names)]
    found = {}
    for first, second in pairs:
        compared: dict[str, Comparison] = significance.paired_bootstrap(ranks[second], ranks[first], cutoffs)
        found[f"{first} - {second}"] = {name: one._asdict() for name, one in compared.items()}
    return found


def _ranks(path: epath.Path) -> np.ndarray:
    with path.open("rb") as file:
        return pyarrow.parquet.read_table(file, columns=["user_id", "rank"]).sort_by("user_id")["rank"].to_numpy()


def _stages(rows: Sequence[dict[str, Any]]) -> list[str]:
    def cell(value: Any) -> str:
        return "" if value is None else value if isinstance(value, str) else f"{value:.4f}"

    return _table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
