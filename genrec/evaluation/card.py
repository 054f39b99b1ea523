"""The reproduction card: metrics of several seeds of a config beside baselines, and the commands that repeat them.

Sample deviations over seeds are the uncertainty of another seed; the paired bootstrap over users, of their metrics
averaged over seeds, is that of other users.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import files as file_io
from genrec import tables
from genrec.config import Experiment
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.evaluation import metrics, provenance, results, segments, significance, templates
from genrec.evaluation.segments import Segmentation
from genrec.evaluation.significance import Comparison
from genrec.ranking import assembly
from genrec.ranking.popular import popularity

SPLIT = "test"
MODEL, HYBRID = "genrec", "hybrid"
SHOWN = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def other_results(seed: epath.PathLike, exclude_history: bool) -> epath.Path:
    """Returns the folder, in the work directory of a seed, of results with the other `evaluation.exclude_history`."""
    return epath.Path(seed) / results.history_rule(exclude_history).replace(" ", "_")


def write(
    folder: epath.PathLike,
    seeds: Sequence[epath.PathLike],
    experiment: Experiment,
    commands: Sequence[str],
    both_histories: bool = False,
) -> str:
    """Writes `card.json` and `card.md` into `folder` and returns the latter.

    `seeds` are the work directories of the seeds, each with `evaluation/` and `multi_stage/`, and with
    `both_histories` also with `other_results`; `commands` made them. Raises DataError if results are missing, or if
    they are of different datasets or of another `evaluation.exclude_history`.
    """
    folder, seeds = epath.Path(folder), [epath.Path(seed) for seed in seeds]
    rule = experiment.evaluation.exclude_history
    runs = [_read(seed, rule) for seed in seeds]
    found = _segmentations(seeds[0])
    identities = [run["figures"]["identity"] for run in runs]
    fingerprints = [one["dataset"] for one in identities]
    if len(set(fingerprints)) > 1:
        raise DataError(f"the seeds in {folder} were evaluated on different datasets: {', '.join(fingerprints)}.")
    other = None
    if both_histories:
        others = [other_results(seed, not rule) for seed in seeds]
        other = _measured(others, [_read(one, not rule) for one in others], found)
    card = {
        "name": experiment.name,
        "split": SPLIT,
        "users": runs[0]["figures"]["users"],
        "seeds": len(seeds),
        **_measured(seeds, runs, found),
        "other": other,  # the same with the other `exclude_history`
        "stages": [run["stages"] for run in runs],
        "semantic_id_metrics": summarize([{MODEL: run["figures"]["semantic_id_metrics"]} for run in runs])[MODEL],
        "fingerprints": [{name: one[name] for name in ("step", "dataset", "semantic_ids")} for one in identities],
        "settings": dataclasses.asdict(experiment),
        "commands": list(commands),
        "machine": provenance.machine(),
    }
    file_io.write_json(folder / "card.json", card)
    text = markdown(card)
    file_io.write_text(folder / "card.md", text)
    return text


def summarize(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns by model and metric the `mean`, the sample `deviation` (None for one run), and all `values`.

    `runs` are the metrics by model of each seed. A model that some seed lacks is left out.
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


def markdown(card: dict[str, Any]) -> str:
    """Returns the card as Markdown."""
    both = [card, card["other"]] if card["other"] else [card]
    shown = _shown(of for measured in both for of in measured["metrics"].values())
    own, *other = (_tables(measured, shown) for measured in both)
    seeds = ([str(n), str(of["step"]), of["dataset"], of["semantic_ids"]] for n, of in enumerate(card["fingerprints"]))
    return templates.render(
        "card.md.jinja",
        **{**card, **own, "other": other[0] if other else None},
        inflated=", ".join(f"{name} {_mean(card['semantic_id_metrics'][name])}" for name in shown),
        first_stages=_table((list(row.values()) for row in card["stages"][0]), list(card["stages"][0][0])),
        fingerprint_table=_table(seeds, ["seed", "step", "dataset", "semantic IDs"]),
    )


def _tables(measured: dict[str, Any], shown: Sequence[str]) -> dict[str, str]:
    """Returns the tables of the result of `_measured`, of the metrics `shown`; those by segment are of recall alone."""
    of_models, recall = measured["metrics"], shown[-2]

    def difference(value: dict[str, Any]) -> str:
        return f"{value['difference']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}], p {value['p']:.4f}"

    return {
        "rule": results.history_rule(measured["exclude_history"]),
        "results": _table(([model, *(_mean(of[n]) for n in shown)] for model, of in of_models.items()), ["", *shown]),
        "differences": _table(
            ([pair, *(difference(of[n]) for n in shown)] for pair, of in measured["comparisons"].items()), ["", *shown]
        ),
        "segments": _table(
            (
                [f"{name} {row['segment']}", f"{row['users']:,}", *(row[model][recall] for model in of_models)]
                for name, rows in measured["segments"].items()
                for row in rows
            ),
            [f"{recall}, by", "users", *of_models],
        ),
    }


def _mean(value: dict[str, Any]) -> str:
    deviation = "" if value["deviation"] is None else f" ± {value['deviation']:.4f}"
    return f"{value['mean']:.4f}{deviation}"


def _table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    return tables.text(rows, header, style=tables.MARKDOWN)


def _measured(
    seeds: Sequence[epath.Path], runs: Sequence[dict[str, Any]], segmentations: dict[str, Segmentation]
) -> dict[str, Any]:
    """Returns the metrics over seeds, the differences between models, and metrics by segment."""
    names = [name for name in runs[0]["metrics"] if name not in (MODEL, HYBRID)]
    files = {MODEL: f"{results.FOLDER}/{SPLIT}_users.parquet"}
    files |= {name: str(results.baseline_file(results.FOLDER, SPLIT, name)) for name in names}
    files |= {HYBRID: f"{assembly.FOLDER}/{SPLIT}_users.parquet"}
    ranks = {name: np.stack([_ranks(seed / file) for seed in seeds]) for name, file in files.items()}
    cutoffs = metrics.cutoffs_of(_shown(of for run in runs for of in run["metrics"].values()))
    # Every user once per seed: a mean over them is the mean over the seeds.
    repeated = {
        name: {segment: np.tile(users, len(seeds)) for segment, users in of.items()}
        for name, of in segmentations.items()
    }
    by_segment = segments.measure(repeated, {name: of.ravel() for name, of in ranks.items()}, cutoffs)
    for rows in by_segment.values():
        for row in rows:
            row["users"] //= len(seeds)
    return {
        "exclude_history": runs[0]["figures"]["exclude_history"],
        "metrics": summarize([run["metrics"] for run in runs]),
        "comparisons": _compare(ranks, cutoffs),
        "segments": by_segment,
    }


def _segmentations(workdir: epath.Path) -> dict[str, Segmentation]:
    """Returns the test users by the length of their history and the popularity of their target, in order of ids."""
    dataset = Dataset(workdir / "dataset")
    sequences, user_ids, targets = dataset.split(SPLIT), [], []
    for block in sequences.blocks():
        user_ids.append(block.user_ids.cast(pa.large_string()))
        targets.append(block.items[block.offsets[1:] - 1])
    order = pc.array_sort_indices(pa.concat_arrays(user_ids)).to_numpy()
    return {
        segments.HISTORY: segments.by_range(sequences.lengths[order] - 1),
        segments.POPULARITY: segments.by_range(popularity(dataset)[np.concatenate(targets)[order]]),
    }


def _read(seed: epath.Path, exclude_history: bool) -> dict[str, Any]:
    """Returns the evaluation, the stages and all models' metrics of a seed.

    Raises DataError for missing files, and for results of another `exclude_history`.
    """
    paths = [seed / folder / f"{SPLIT}.json" for folder in (results.FOLDER, assembly.FOLDER)]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is not there: this seed is not finished. Run launch/reproduce.py again.")
    figures, staged = (file_io.read_json(path) for path in paths)
    for path, found in zip(paths, (figures, staged), strict=True):
        if found.get("exclude_history") != exclude_history:
            raise DataError(
                f"{path} was not evaluated with evaluation.exclude_history={exclude_history}, as the card is. Remove "
                f"the files *.done in {seed}, and run launch/reproduce.py again."
            )
    by_model = {MODEL: figures["metrics"], **figures["baselines"], HYBRID: staged["metrics"]}
    return {"figures": figures, "stages": staged["stages"], "metrics": by_model}


def _shown(models: Iterable[Iterable[str]]) -> list[str]:
    """Returns the metrics that a card shows, of those of all models: lists may be too short for some of SHOWN."""
    measured = set.intersection(*map(set, models))
    first = metrics.shown_cutoff(metrics.cutoffs_of(measured))
    return [name for name in SHOWN if name in measured] or [f"recall@{first}", f"ndcg@{first}"]


def _compare(ranks: dict[str, np.ndarray], cutoffs: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Returns the paired bootstrap of the model against each baseline, and of the hybrid against all.

    `ranks` are int[seeds, users] of each model.
    """
    names = [name for name in ranks if name not in (MODEL, HYBRID)]
    pairs = [(MODEL, name) for name in names] + [(HYBRID, name) for name in (MODEL, *names)]
    found = {}
    for first, second in pairs:
        compared: dict[str, Comparison] = significance.paired_bootstrap(ranks[second], ranks[first], cutoffs)
        found[f"{first} - {second}"] = {name: one._asdict() for name, one in compared.items()}
    return found


def _ranks(path: epath.Path) -> np.ndarray:
    with path.open("rb") as file:
        return pyarrow.parquet.read_table(file, columns=["user_id", "rank"]).sort_by("user_id")["rank"].to_numpy()
