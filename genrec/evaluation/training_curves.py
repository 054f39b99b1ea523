"""The training section of a report: curves of `metrics.jsonl`, training time, and the best checkpoint."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from genrec import charts

LEVEL = "loss_level_"  # names of the losses by level, from 0

Row = Mapping[str, Any]


class TrainingCurves(NamedTuple):
    """Series of a training log."""

    charts: list[tuple["charts.Figure", str]]  # and captions
    seconds: float | None  # of the steps alone, without validations and checkpoints; None if it was not logged
    best: tuple[int, float] | None  # step and value of the metric that chooses the best checkpoint; None without any


def read(workdir: epath.PathLike, step: int, best_metric: str, validated: Sequence[str]) -> TrainingCurves | None:
    """Returns the curves of a work directory; None if there is no log.

    The chart of `validated`, metrics of the validations, marks the evaluated `step`.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return None
    # The last line is incomplete while training writes it.
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    train, validation = _series(rows, "train"), _series(rows, "validation")
    losses = [name for name in train if (name == "objective" or "loss" in name) and not name.startswith(LEVEL)]
    if train.get("objective") == train.get("loss"):  # they differ where targets have weights or texts are generated
        losses = [name for name in losses if name != "objective"]
    by_level = {name: f"level {int(name.removeprefix(LEVEL)) + 1}" for name in train if name.startswith(LEVEL)}
    panels = [
        ("Training loss", "loss", {name: name.replace("_", " ") for name in losses}),
        ("Training loss by level of the semantic ID", "loss", by_level),
        ("Learning rate", "learning rate", {"learning_rate": "learning rate"}),
        ("Norm of the gradient before clipping", "norm", {"gradient_norm": "norm"}),
        ("Throughput in training", "targets per second", {"targets_per_second": "targets per second"}),
    ]
    drawn = [
        (charts.lines({label: train[name] for name, label in names.items()}, "step", y), title)
        for title, y, names in panels
        if names and names.keys() <= train.keys()
    ]
    shown = {name: validation[name] for name in dict.fromkeys((*validated, best_metric)) if name in validation}
    if shown:
        title = f"Validation; the dashed line is the evaluated step {step:,}"
        drawn.insert(0, (charts.lines(shown, "step", "metric", mark=step), title))
    best = max(validation.get(best_metric, []), key=lambda point: (point[1], -point[0]), default=None)
    return TrainingCurves(drawn, _seconds(train.get("step_seconds", [])), best)


def _series(rows: Sequence[Row], group: str) -> dict[str, list[tuple[int, float]]]:
    """Returns the points (step, value) of each metric of a group, by its name without the group."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(f"{group}/"):
                found.setdefault(name.removeprefix(f"{group}/"), []).append((row["step"], value))
    return found


def _seconds(step_seconds: Sequence[tuple[int, float]]) -> float | None:
    """Returns the sum over lines of the log of the seconds of the steps since the line before."""
    if not step_seconds:
        return None
    ends = [0, *(step for step, _ in step_seconds)]
    return sum((end - start) * each for start, end, (_, each) in zip(ends[:-1], ends[1:], step_seconds, strict=True))
