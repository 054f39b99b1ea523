"""What an evaluation leaves behind: figures as JSON, every user's list as Parquet, and a table for people.

evaluation/
  <split>.json             metrics of the model and of the baselines, also by segment, and what was evaluated
  <split>_users.parquet    user_id, rank (0: not in the list), target, recommended (item ids, best first), certified
                           (how many of them surely are the likeliest of the whole catalogue)
  <split>_users_<baseline>.parquet   user_id, rank and target, to compare with
  <split>.txt              the tables
  <split>.html             the report for people (genrec.evaluation.report)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import files
from genrec.evaluation import metrics
from genrec.evaluation.evaluator import Evaluation

FOLDER = "evaluation"  # of a work directory


def users_file(folder: epath.PathLike, split: str) -> epath.Path:
    """Where `write` puts the users' lists."""
    return epath.Path(folder) / f"{split}_users.parquet"


def baseline_file(folder: epath.PathLike, split: str, name: str) -> epath.Path:
    """Where `write` puts the ranks of a baseline."""
    return epath.Path(folder) / f"{split}_users_{name.lower().replace(' ', '_')}.parquet"


def write(
    folder: epath.PathLike,
    split: str,
    evaluation: Evaluation,
    baselines: Mapping[str, np.ndarray],
    item_ids: Sequence[str],
    details: Mapping[str, Any],
    text: str = "",
) -> str:
    """Writes the results of one split; the JSON file comes last, so that where it is, all is there.

    Args:
      folder: usually FOLDER of a work directory.
      split: name of the files.
      evaluation: of the model, over every user of the split.
      baselines: int32[users], ranks of the same users' targets by each other model.
      item_ids: of the catalogue, in its order.
      details: what else the JSON file is to say, such as the checkpoint's step.
      text: what else the text file is to say.

    Returns:
      The table, and `text`.
    """
    for name, ranks in baselines.items():
        if len(ranks) != len(evaluation.ranks):
            raise ValueError(f"{len(ranks)} users for {name}, {len(evaluation.ranks)} for the model")
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cutoffs = metrics.cutoffs_of(evaluation.metrics)
    others = {name: metrics.compute(ranks, cutoffs) for name, ranks in baselines.items()}
    text = table(evaluation.metrics, others, title=f"{split} split, {len(evaluation.ranks):,} users") + "\n" + text
    files.write_parquet(_users(evaluation, item_ids), users_file(folder, split))
    for name, ranks in baselines.items():
        rows = pa.table(
            {
                "user_id": pa.array(evaluation.user_ids, pa.string()),
                "rank": pa.array(ranks, pa.int32()),
                "target": pa.array(item_ids, pa.string()).take(pa.array(evaluation.targets)),
            }
        )
        files.write_parquet(rows, baseline_file(folder, split, name))
    files.write_text(folder / f"{split}.txt", text + "\n")
    figures = {
        "split": split,
        "users": len(evaluation.ranks),
        **details,
        "metrics": evaluation.metrics,
        "baselines": others,
    }
    files.write_text(folder / f"{split}.json", json.dumps(figures, indent=2) + "\n")
    return text


def table(model: Mapping[str, float], others: Mapping[str, Mapping[str, float]], title: str) -> str:
    """A plain text table: one line per metric and cutoff, the model beside others, and its ratio to each."""
    lines = [title, f"{'':<12}{'model':>10}" + "".join(f"{name:>16}{'ratio':>8}" for name in others)]
    for name in metrics.NAMES:
        lines.append("")
        for cutoff in metrics.cutoffs_of(model):
            metric = f"{name}@{cutoff}"
            line = f"{metric:<12}{model[metric]:>10.4f}"
            for theirs in (other[metric] for other in others.values()):
                ratio = f"{model[metric] / theirs:.1f}x" if theirs else "-"
                line += f"{theirs:>16.4f}{ratio:>8}"
            lines.append(line)
    return "\n".join(lines)


def _users(evaluation: Evaluation, item_ids: Sequence[str]) -> pa.Table:
    ids = pa.array(item_ids, pa.string())
    real = evaluation.recommended >= 0  # [users, beams]; False where a list ends early
    ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    recommended = ids.take(pa.array(evaluation.recommended[real]))
    return pa.table(
        {
            "user_id": pa.array(evaluation.user_ids, pa.string()),
            "rank": pa.array(evaluation.ranks, pa.int32()),
            "target": ids.take(pa.array(evaluation.targets)),
            "recommended": pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), recommended),
            "certified": pa.array(np.minimum(evaluation.certified, real.sum(axis=1)), pa.int32()),
        }
    )
