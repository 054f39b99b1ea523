"""Baselines of an evaluation: lists of simpler methods for the same users."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from genrec.data.dataset import Dataset
from genrec.evaluation.beyond_accuracy import BeyondAccuracy
from genrec.evaluation.evaluator import item_ranks
from genrec.progress import progress
from genrec.ranking.lists import Lists, Source

USERS_AT_A_TIME = 1024


class Baseline(NamedTuple):
    """Results of a baseline on a split."""

    ranks: np.ndarray  # int32[users], of the targets; 0 for one that is not listed
    beyond_accuracy: dict[str, float]


def evaluate(found: Iterable[tuple[np.ndarray, Lists]], beyond_accuracy: BeyondAccuracy) -> Baseline:
    """Returns the results of the targets and lists that `recommend` yields, which are counted in `beyond_accuracy`."""
    ranks = []
    for targets, lists in found:
        ranks.append(item_ranks(lists.items, targets))
        beyond_accuracy.add(lists.items)
    return Baseline(np.concatenate(ranks), beyond_accuracy.figures())


def recommend(
    source: Source,
    dataset: Dataset,
    split: str,
    top: int,
    max_history: int,
    exclude_history: bool = False,
    name: str = "",
) -> Iterator[tuple[np.ndarray, Lists]]:
    """Yields the targets int32[users] and the lists of some users of a split at a time, in its order.

    The lists are from the last `max_history` items before the targets; `exclude_history` leaves out all items before
    the target. `name` is shown with the progress.
    """
    sequences = dataset.split(split)
    for start in progress(range(0, len(sequences), USERS_AT_A_TIME), f"evaluate {name or split}"):
        some = sequences.read(np.arange(start, min(start + USERS_AT_A_TIME, len(sequences))))
        # Not [-max_history:], which is everything if it is 0.
        histories = [sequence.items[max(0, len(sequence.items) - 1 - max_history) : -1] for sequence in some]
        exclude = [sequence.items[:-1] for sequence in some] if exclude_history else None
        found = source.recommend([sequence.user_id for sequence in some], histories, top, exclude)
        yield np.array([sequence.items[-1] for sequence in some], np.int32), found
