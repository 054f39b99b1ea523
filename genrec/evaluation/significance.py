"""Paired bootstrap over users: confidence intervals and two-sided p-values of the difference between two models.

Users are resampled with replacement, each with the ranks of both models, so that what makes a user hard for both
cancels out (Efron & Tibshirani 1993, chapter 16; for retrieval Sakai, SIGIR 2006).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import files, tables
from genrec.config import ConfigError, Evaluation
from genrec.data.errors import DataError
from genrec.evaluation import metrics, results

SAMPLES = 10_000
CONFIDENCE = 0.95
CUTOFFS = Evaluation().cutoffs
AT_A_TIME = 1000  # samples drawn together, which bounds the memory


class Comparison(NamedTuple):
    """One metric of two models over the same users."""

    first: float
    second: float
    difference: float  # second - first
    low: float  # bounds of the difference's interval
    high: float
    p: float  # two-sided p-value of no difference


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, cutoffs: Sequence[int], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Comparison]:
    """Compares the ranks of the same users' targets, int[users] each (0: not in the list), by every metric.

    Either may be int[runs, users], such as those of several seeds: a user's metric is then the mean over the runs.
    Users with the same ranks are exchangeable, so a sample is one multinomial draw of the counts of each kind of user.

    Raises ValueError if the numbers of users differ.
    """
    first, second = (_within(np.atleast_2d(ranks), cutoffs) for ranks in (first, second))
    users = first.shape[1]
    if users != second.shape[1]:
        raise ValueError(f"{users} ranks of the first model, {second.shape[1]} of the second: pairs are needed")
    kinds, counts = np.unique(np.concatenate([first, second]).T, axis=0, return_counts=True)
    values = np.stack(  # [models, kinds, metrics]
        [
            np.mean([_values(kinds[:, run], cutoffs) for run in runs], axis=0)
            for runs in (range(len(first)), range(len(first), len(first) + len(second)))
        ]
    )
    means = np.tensordot(values, counts / users, (1, 0))
    differences = _resampled(values[1] - values[0], counts, samples, seed)
    low, high = _interval(differences)
    # One is added because the share of samples beyond 0 cannot be known to be less than one of them.
    beyond = np.minimum((differences <= 0).sum(axis=0), (differences >= 0).sum(axis=0)) + 1
    p = np.minimum(2 * beyond / (samples + 1), 1.0)
    names = metrics.compute(first[0, :1], cutoffs)
    return {
        name: Comparison(
            first=float(means[0, n]),
            second=float(means[1, n]),
            difference=float(means[1, n] - means[0, n]),
            low=float(low[n]),
            high=float(high[n]),
            p=float(p[n]),
        )
        for n, name in enumerate(names)
    }


def compare_with(
    others: Mapping[str, np.ndarray], ranks: np.ndarray, cutoffs: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns for each other model and each metric the fields of a Comparison; `difference` is the model's lead.

    `ranks` int[users] are the model's, those of `others` by name are of the same users.
    """
    return {
        name: {metric: one._asdict() for metric, one in paired_bootstrap(theirs, ranks, cutoffs).items()}
        for name, theirs in others.items()
    }


def verdict(comparison: Mapping[str, float]) -> str:
    """Returns in words how the second model of a comparison stands to the first, by the interval of the difference."""
    if comparison["low"] > 0:
        return "better than"
    return "worse than" if comparison["high"] < 0 else "not clearly different from"


def sentence(
    of_model: Mapping[str, float], comparisons: Mapping[str, Mapping[str, Mapping[str, float]]], cutoff: int, rule: str
) -> str:
    """Returns in a sentence what the model is better and worse than, by its recall at a cutoff of `compare_with`.

    `of_model` are the model's metrics; `rule` says whether its lists may have items of the history.
    """
    names = f"recall@{cutoff}", f"ndcg@{cutoff}"
    shown = " and ".join(f"{name} {of_model[name]:.4f}" for name in names)
    by_verdict: dict[str, list[str]] = {}
    for other, compared in comparisons.items():
        by_verdict.setdefault(verdict(compared[names[0]]), []).append(other)
    parts = [
        f"{one} {' and '.join([', '.join(others[:-1]), others[-1]] if len(others) > 1 else others)}"
        for one, others in sorted(by_verdict.items())
    ]
    return f"The model has {shown}, {rule}: {', '.join(parts)}."


def verdicts(comparisons: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Returns a line of text for each other model of `compare_with`: the verdict, and the differences behind it."""
    lines = []
    for name, compared in comparisons.items():
        metric = next(metric for metric in compared if metric.startswith("recall"))
        one = compared[metric]
        interval = f"{CONFIDENCE:.0%} interval {one['low']:+.4f} to {one['high']:+.4f}"
        lines.append(f"the model is {verdict(one)} {name}: {metric} {one['difference']:+.4f}, {interval}")
    return lines


def bootstrap(
    ranks: np.ndarray, cutoffs: Sequence[int], samples: int = SAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Returns the confidence interval of every metric of one model, from the ranks int[users] of the targets."""
    kinds, counts = np.unique(_within(ranks, cutoffs), return_counts=True)
    low, high = _interval(_resampled(_values(kinds, cutoffs), counts, samples, seed))
    return {name: (float(low[n]), float(high[n])) for n, name in enumerate(metrics.compute(kinds[:1], cutoffs))}


def _within(ranks: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Returns the ranks with 0 for those beyond all cutoffs, which count alike: fewer kinds of users are drawn."""
    return np.where(ranks > max(cutoffs), 0, ranks)


def _resampled(values: np.ndarray, counts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Returns float64[samples, metrics], means over resampled users: counts[kind] of each, with values[kind]."""
    random, drawn, users = np.random.default_rng(seed), [], counts.sum()
    for start in range(0, samples, AT_A_TIME):
        size = min(AT_A_TIME, samples - start)
        drawn.append(random.multinomial(users, counts / users, size) @ values / users)
    return np.concatenate(drawn)


def _interval(samples: np.ndarray) -> np.ndarray:
    """Returns the lower and the upper bounds float64[2, metrics] of the confidence intervals of samples."""
    return np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)


def _values(ranks: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Returns float64[n, metrics], the metrics of a user with each rank."""
    known, places = np.unique(ranks, return_inverse=True)
    return np.array([list(metrics.compute([rank], cutoffs).values()) for rank in known])[places]


def users_file(path: epath.PathLike, split: str) -> epath.Path:
    """Returns the file of the users' ranks of a split in a work directory or in the folder of an evaluation.

    A Parquet file is returned as it is.
    """
    path = epath.Path(path)
    if path.suffix == ".parquet":
        return path
    own = results.users_file(path, split)
    return own if own.exists() else results.users_file(path / results.FOLDER, split)


def list_length(path: epath.PathLike) -> int:
    """Returns the length of the lists behind a file of users' ranks; the greatest rank in a file that does not say."""
    if length := _metadata(path).get(results.LENGTH):
        return int(length)
    return max(1, pc.max(files.read_parquet(path, ["rank"])["rank"]).as_py() or 0)


def history_rule(path: epath.PathLike) -> str:
    """Returns `results.history_rule` of the lists behind a file of users' ranks; "" for a file that does not say."""
    return _metadata(path).get(results.HISTORY, b"").decode()


def _metadata(path: epath.PathLike) -> dict[bytes, bytes]:
    """Returns the metadata of a Parquet file, without its rows; raises DamagedError if they cannot be read."""
    with files.reading(path, "Parquet"), epath.Path(path).open("rb") as file:
        return pyarrow.parquet.read_schema(file).metadata or {}


def shown_cutoffs(given: Sequence[float] | None, length: int) -> list[int]:
    """Returns the cutoffs that lists of `length` items can show: those given, else those of CUTOFFS up to it.

    Raises ConfigError if one that is given is not a whole number between 1 and the length, or none is given.
    """
    if given is None:
        return [cutoff for cutoff in CUTOFFS if cutoff <= length]
    wrong = [cutoff for cutoff in given if not (1 <= cutoff <= length and float(cutoff).is_integer())]
    if wrong or not given:
        got = f"{wrong[0]:g}" if wrong else "none"
        raise ConfigError(f"cutoffs must be whole numbers from 1 to {length}, the items of a list; got {got}.")
    return [int(cutoff) for cutoff in given]


def ranks_of_same_users(first: epath.PathLike, second: epath.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32[users] of each of two `<split>_users.parquet`.

    Raises DataError if users or targets differ.
    """
    tables = [_users(path) for path in (first, second)]
    ids = [table["user_id"] for table in tables]
    if not ids[0].equals(ids[1]):
        one, other = (set(column.to_pylist()) for column in ids)
        path, missing = (second, one - other) if one - other else (first, other - one)
        raise DataError(
            f"{path} has not the same users as the other file: {len(one ^ other)} are in one of them only, such as "
            f"{min(missing)!r}. Evaluate both on the same split of the same dataset."
        )
    differ = pc.indices_nonzero(pc.not_equal(tables[0]["target"], tables[1]["target"]))
    if len(differ):
        user = ids[0][differ[0].as_py()].as_py()
        raise DataError(
            f"{len(differ)} users have other targets in {second} than in {first}, such as {user!r}. Evaluate both on "
            "the same split of the same dataset."
        )
    return tables[0]["rank"].to_numpy(), tables[1]["rank"].to_numpy()


def _users(path: epath.PathLike) -> pa.Table:
    """Returns the users sorted by id; raises DataError for a missing file or a user who is in it twice."""
    path = epath.Path(path)
    if not path.exists():
        raise DataError(f"{path} is not there. tools/evaluate_checkpoint.py writes it.")
    table = files.read_parquet(path, ["user_id", "target", "rank"])
    if pc.count_distinct(table["user_id"]).as_py() < len(table):
        raise DataError(f"{path}: a user stands in it more than once, and would count more than once.")
    return table.sort_by("user_id")


def table(compared: dict[str, Comparison], names: tuple[str, str], users: int) -> str:
    """Returns plain text with one line per metric."""
    rows = [
        [name, one.first, one.second, f"{one.difference:+.4f}", f"[{one.low:+.4f}, {one.high:+.4f}]", one.p]
        for name, one in compared.items()
        if name in metrics.distinct(compared)
    ]
    header = ["", "first", "second", "difference", f"{CONFIDENCE:.0%} interval", "p"]
    return f"{users:,} users; first: {names[0]}; second: {names[1]}\n{tables.text(rows, header)}"
