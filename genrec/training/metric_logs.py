"""Metrics of a run in `metrics.jsonl`, TensorBoard events, and the log, all written by process 0."""

import json
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from etils import epath

from genrec import distributed, files
from genrec.errors import GenrecError
from genrec.evaluation import provenance

# tensorboardX imports torch where that is installed: seconds of every start, for types that are not used here.
_TORCH = sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # None makes an import fail
from tensorboardX import SummaryWriter  # noqa: E402

if _TORCH is None:
    del sys.modules["torch"]


# Metrics of training in the log, with their names and formats there.
SHOWN = {
    "loss": ("loss", ".4g"),
    "objective": ("objective", ".4g"),
    "gradient_norm": ("grad", ".3g"),
    "learning_rate": ("lr", ".1e"),
    "targets_per_second": ("targets/s", ",.0f"),
    "model_flops_utilization": ("MFU", ".0%"),
}
MOST_SHOWN = 4  # metrics of a validation in the log


class TrainingError(GenrecError):
    """Training diverged. The message says what to change."""


class Logs:
    """Writer of the metrics of one run, and of its machine, for the report of an evaluation.

    A resumed run drops the lines after the checkpoint it resumes from.
    """

    def __init__(self, workdir: epath.PathLike, first_step: int):
        self._writes = distributed.is_first()
        if not self._writes:
            return
        self._path = epath.Path(workdir) / "metrics.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        # The last line is incomplete if the process was killed while writing it.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= first_step]
        self._text = "".join(line + "\n" for line in kept)
        files.write_text(self._path, self._text)
        files.write_json(epath.Path(workdir) / provenance.MACHINE, provenance.machine())
        self._events = SummaryWriter(str(epath.Path(workdir) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, group: str, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a `group` ("train", "validation") at a step."""
        if not self._writes:
            return
        numbers = {f"{group}/{name}": float(value) for name, value in metrics.items()}
        self._append(files.to_json({"step": step, **numbers}) + "\n")
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        logging.info("step %d %s: %s", step, group, _shown(metrics))

    def close(self) -> None:
        if self._writes:
            self._events.close()

    def _append(self, line: str) -> None:
        """Appends a line and closes the file: on a mounted bucket, it becomes visible only then."""
        self._text += line
        if "://" in str(self._path):  # objects in a bucket cannot be appended to
            files.write_text(self._path, self._text)
            return
        with self._path.open("a") as file:
            file.write(line)


def _shown(metrics: Mapping[str, float]) -> str:
    """Returns metrics as text that fits a line of the log; the files hold all of them."""
    if "loss" in metrics:
        return ", ".join(
            f"{name} {metrics[key]:{form}}"
            for key, (name, form) in SHOWN.items()
            if key in metrics and _is_news(metrics, key)
        )
    names = [name for name in metrics if name.endswith("@10")] or list(metrics)
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in names[:MOST_SHOWN])


def _is_news(metrics: Mapping[str, float], key: str) -> bool:
    """Returns False for an objective that is the plain loss."""
    return key != "objective" or metrics[key] != metrics["loss"]


def summarize(steps: Sequence[dict[str, np.ndarray]], learning_rate: float) -> dict[str, float]:
    """Returns the means of the metrics of steps; raises TrainingError when the objective is not finite.

    `objective` is what is minimized, per target: the next-item loss with the weights of the targets, and the weighted
    loss of texts. `loss` is the plain next-item loss, the cross-entropy of a target in nats; `text_loss` is that of a
    piece.
    """
    objective, gradient_norm = (float(_mean(steps, name)) for name in ("objective", "gradient_norm"))
    if not (math.isfinite(objective) and math.isfinite(gradient_norm)):
        raise TrainingError(
            f"the loss is {objective}, the norm of its gradient {gradient_norm}. The last checkpoint is good: lower "
            f"training.learning_rate (it stands at {learning_rate:.2g}) or training.gradient_clip, or lengthen "
            "training.warmup_steps, in a new --workdir."
        )
    texts = [float(step["text_loss"]) for step in steps if "text_loss" in step]
    return {
        "objective": objective,
        "loss": float(_mean(steps, "loss")),
        **({"text_loss": sum(texts) / len(texts)} if texts else {}),
        **{f"loss_level_{level}": float(value) for level, value in enumerate(_mean(steps, "loss_per_level"))},
        "gradient_norm": gradient_norm,
        "learning_rate": learning_rate,
    }


def _mean(steps: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.asarray(sum(step[name] for step in steps) / len(steps))
