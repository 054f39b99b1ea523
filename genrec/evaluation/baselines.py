"""The baselines of an evaluation: the lists that simpler methods give the same users."""

from collections.abc import Mapping

import numpy as np

from genrec.data.dataset import Dataset
from genrec.evaluation.evaluator import item_ranks
from genrec.progress import progress
from genrec.ranking.lists import Lists, Source

USERS_AT_A_TIME = 1024


def recommend(source: Source, dataset: Dataset, split: str, top: int, max_history: int, name: str = "") -> Lists:
    """The lists of all users of a split, in its order, from the last `max_history` items before their targets.

    `name` is shown with the progress.
    """
    sequences = dataset.split(split)
    parts = []
    for start in progress(range(0, len(sequences), USERS_AT_A_TIME), f"evaluate {name or split}"):
        some = sequences.read(np.arange(start, min(start + USERS_AT_A_TIME, len(sequences))))
        histories = [record.items[:-1][-max_history:] for record in some]
        parts.append(source.recommend([record.user_id for record in some], histories, top))
    return Lists(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def ranks(lists: Mapping[str, Lists], targets: np.ndarray) -> dict[str, np.ndarray]:
    """int32[users] of each source: the places of the targets int[users]; 0 is not in the list."""
    return {name: item_ranks(of_source.items, targets) for name, of_source in lists.items()}
