"""The files of an evaluation: metrics as JSON, the users' lists as Parquet, and tables as text.

evaluation/, or the folder of a variant or of a step in it:
  <split>.json             metrics of the model and of the baselines, also by segment, and what was evaluated
  <split>_users.parquet    user_id, rank (0: not in the list), target, recommended (item ids, best first); for a search
                           also certified (how many of the first items are proven to be the most likely ones)
  <split>_users_<baseline>.parquet   user_id, rank and target
  <split>.txt              the tables
  <split>.html             the report for people (genrec.evaluation.report)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import files, tables
from genrec.evaluation import metrics
from genrec.evaluation.evaluator import Evaluation, SearchEvaluation

FOLDER = "evaluation"  # of a work directory
# In the metadata of the Parquet files: the items of a list, empty places included, and the history rule.
LENGTH, HISTORY = b"list_length", b"history_rule"


def users_file(folder: epath.PathLike, split: str) -> epath.Path:
    """Returns the file of the users' lists."""
    return epath.Path(folder) / f"{split}_users.parquet"


def baseline_file(folder: epath.PathLike, split: str, name: str) -> epath.Path:
    """Returns the file of the ranks of a baseline."""
    return epath.Path(folder) / f"{split}_users_{name.lower().replace(' ', '_')}.parquet"


def history_rule(exclude_history: bool) -> str:
    """Returns in words whether lists may have items of the user's history (config.Evaluation.exclude_history)."""
    return f"history items {'excluded' if exclude_history else 'kept'}"


def write(
    folder: epath.PathLike,
    split: str,
    evaluation: Evaluation,
    baselines: Mapping[str, np.ndarray],
    item_ids: Sequence[str],
    details: Mapping[str, Any],
    text: str = "",
    variant: Sequence[str] = (),
    *,
    exclude_history: bool,
) -> str:
    """Writes the results of one split; the JSON file comes last, so that it exists only if all others do.

    Args:
      folder: usually FOLDER of a work directory.
      split: name of the files.
      evaluation: of the model, over every user of the split.
      baselines: int32[users], ranks of the same users' targets by each other model.
      item_ids: of the catalogue, in its order.
      details: further entries of the JSON file, such as the step of the checkpoint.
      text: further lines of the text file.
      variant: in words, how the evaluation differs from the plain one (genrec.evaluation.identity).
      exclude_history: config.Evaluation.exclude_history, of all lists.

    Returns:
      The content of the text file, without its last newline.
    """
    for name, ranks in baselines.items():
        if len(ranks) != len(evaluation.ranks):
            raise ValueError(f"{len(ranks)} users for {name}, {len(evaluation.ranks)} for the model")
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cutoffs = metrics.cutoffs_of(evaluation.metrics)
    others = {name: metrics.compute(ranks, cutoffs) for name, ranks in baselines.items()}
    title = "; ".join([f"{split} split, {len(evaluation.ranks):,} users", history_rule(exclude_history), *variant])
    text = table(evaluation.metrics, others, title) + "\n" + text
    of_lists = {LENGTH: str(evaluation.recommended.shape[1]), HISTORY: history_rule(exclude_history)}
    files.write_parquet(_users(evaluation, item_ids).replace_schema_metadata(of_lists), users_file(folder, split))
    for name, ranks in baselines.items():
        rows = pa.table(
            {
                "user_id": pa.array(evaluation.user_ids, pa.string()),
                "rank": pa.array(ranks, pa.int32()),
                "target": pa.array(item_ids, pa.string()).take(pa.array(evaluation.targets)),
            }
        )
        files.write_parquet(rows.replace_schema_metadata(of_lists), baseline_file(folder, split, name))
    files.write_text(folder / f"{split}.txt", text + "\n")
    figures = {
        "split": split,
        "users": len(evaluation.ranks),
        "variant": list(variant),
        "exclude_history": exclude_history,
        **details,
        "metrics": evaluation.metrics,
        "baselines": others,
    }
    files.write_json(folder / f"{split}.json", figures)
    return text


def table(model: Mapping[str, float], others: Mapping[str, Mapping[str, float]], title: str) -> str:
    """Returns plain text with one line per metric and cutoff: the model, and each other model with the ratio to it.

    At cutoff 1 there is recall alone, which NDCG and MRR equal.
    """
    rows: list[list[object]] = []
    for name in metrics.NAMES:
        rows.append([])
        for metric in metrics.distinct(f"{name}@{cutoff}" for cutoff in metrics.cutoffs_of(model)):
            row: list[object] = [metric, model[metric]]
            for theirs in (other[metric] for other in others.values()):
                row += [theirs, f"{model[metric] / theirs:.1f}x" if theirs else "-"]
            rows.append(row)
    header = ["", "model", *(column for name in others for column in (name, "ratio"))]
    return f"{title}\n{tables.text(rows, header)}"


def _users(evaluation: Evaluation, item_ids: Sequence[str]) -> pa.Table:
    ids = pa.array(item_ids, pa.string())
    real = evaluation.recommended >= 0  # [users, beams]; False for an empty place
    ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    recommended = ids.take(pa.array(evaluation.recommended[real]))
    columns = {
        "user_id": pa.array(evaluation.user_ids, pa.string()),
        "rank": pa.array(evaluation.ranks, pa.int32()),
        "target": ids.take(pa.array(evaluation.targets)),
        "recommended": pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), recommended),
    }
    if isinstance(evaluation, SearchEvaluation):
        columns["certified"] = pa.array(np.minimum(evaluation.certified, real.sum(axis=1)), pa.int32())
    return pa.table(columns)
