"""Paired bootstrap over users: confidence intervals and two-sided p-values of the difference between two models.

Users are resampled with replacement, each with the ranks of both models, so that what makes a user hard for both
cancels out (Efron & Tibshirani 1993, chapter 16; for retrieval Sakai, SIGIR 2006).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet
from etils import epath

from genrec import tables
from genrec.data.errors import DataError
from genrec.evaluation import metrics, results

SAMPLES = 10_000
CONFIDENCE = 0.95
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
    first, second = np.atleast_2d(first), np.atleast_2d(second)
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
    random, drawn = np.random.default_rng(seed), []
    for start in range(0, samples, AT_A_TIME):
        size = min(AT_A_TIME, samples - start)
        drawn.append(random.multinomial(users, counts / users, size) @ (values[1] - values[0]) / users)
    differences = np.concatenate(drawn)
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
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


def _values(ranks: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Returns float64[n, metrics], the metrics of a user with each rank."""
    known, places = np.unique(ranks, return_inverse=True)
    return np.array([list(metrics.compute([rank], cutoffs).values()) for rank in known])[places]


def users_file(path: epath.PathLike, split: str) -> epath.Path:
    """Returns the file of the users' ranks of a split in a work directory; a Parquet file is returned as it is."""
    path = epath.Path(path)
    return path if path.suffix == ".parquet" else results.users_file(path / results.FOLDER, split)


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


def _users(path: epath.PathLike) -> pyarrow.Table:
    """Returns the users sorted by id; raises DataError for a missing file or a user who is in it twice."""
    path = epath.Path(path)
    if not path.exists():
        raise DataError(f"{path} is not there. tools/evaluate_checkpoint.py writes it.")
    table = pyarrow.parquet.read_table(path, columns=["user_id", "target", "rank"])
    if pc.count_distinct(table["user_id"]).as_py() < len(table):
        raise DataError(f"{path}: a user stands in it more than once, and would count more than once.")
    return table.sort_by("user_id")


def table(compared: dict[str, Comparison], names: tuple[str, str], users: int) -> str:
    """Returns plain text with one line per metric."""
    rows = [
        [name, one.first, one.second, f"{one.difference:+.4f}", f"[{one.low:+.4f}, {one.high:+.4f}]", one.p]
        for name, one in compared.items()
    ]
    header = ["", "first", "second", "difference", f"{CONFIDENCE:.0%} interval", "p"]
    return f"{users:,} users; first: {names[0]}; second: {names[1]}\n{tables.text(rows, header)}"
