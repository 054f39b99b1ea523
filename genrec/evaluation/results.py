"""The files of an evaluation: metrics as JSON, the users' lists as Parquet, and tables as text.

evaluation/, or the folder of a variant or of a step in it:
  <split>.json             metrics of the model and of the baselines, also by segment, and what was evaluated
  <split>_users.parquet    user_id, rank (0: not in the list), target, recommended (item ids, best first); for a search
                           also certified (how many of the first items are proven to be the most likely ones)
  <split>_users_<baseline>.parquet   user_id, rank and target
  <split>.txt              the tables
  <split>.html             the report for people (genrec.evaluation.report)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import files, tables
from genrec.evaluation import metrics
from genrec.evaluation.evaluator import Evaluation

FOLDER = "evaluation"  # of a work directory
USERS_AT_A_TIME = 1 << 14  # whose lists are held as texts, and written as a row group
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
    metadata = {LENGTH: str(evaluation.recommended.shape[1]), HISTORY: history_rule(exclude_history)}
    ids = pa.array(item_ids, pa.string())
    parts = _with_lists(_users(evaluation, evaluation.ranks, ids, metadata), evaluation, ids)
    files.write_parquet_parts(parts, users_file(folder, split))
    for name, ranks in baselines.items():
        files.write_parquet_parts(_users(evaluation, ranks, ids, metadata), baseline_file(folder, split, name))
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


def _users(
    evaluation: Evaluation, ranks: np.ndarray, item_ids: pa.Array, metadata: Mapping[bytes, str]
) -> Iterator[pa.Table]:
    """Yields rows of USERS_AT_A_TIME users: ids, ranks int32[users], and targets."""
    user_ids = pa.array(evaluation.user_ids, pa.large_string())
    for start in range(0, len(ranks), USERS_AT_A_TIME):
        some = slice(start, start + USERS_AT_A_TIME)
        columns = {
            "user_id": pa.array(user_ids[some].to_pylist(), pa.string()),
            "rank": pa.array(ranks[some], pa.int32()),
            "target": item_ids.take(pa.array(evaluation.targets[some])),
        }
        yield pa.table(columns, metadata=metadata)


def _with_lists(parts: Iterable[pa.Table], evaluation: Evaluation, item_ids: pa.Array) -> Iterator[pa.Table]:
    """Yields the rows of `_users` with their lists."""
    start = 0
    for part in parts:
        some = slice(start, start + len(part))
        recommended = evaluation.recommended[some]
        real = recommended >= 0  # [users, beams]; False for an empty place
        lengths = real.sum(axis=1)
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        lists = pa.LargeListArray.from_arrays(ends, item_ids.take(pa.array(recommended[real])))
        part = part.append_column("recommended", lists)
        if evaluation.certified is not None:
            certified = np.minimum(evaluation.certified[some], lengths)
            part = part.append_column("certified", pa.array(certified, pa.int32()))
        yield part
        start = some.stop
