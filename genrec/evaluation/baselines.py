"""Baselines of an evaluation: lists of simpler methods for the same users."""

from collections.abc import Mapping

import numpy as np

from genrec.data.dataset import Dataset
from genrec.evaluation.evaluator import item_ranks
from genrec.progress import progress
from genrec.ranking.lists import Lists, Source

USERS_AT_A_TIME = 1024


def recommend(
    source: Source,
    dataset: Dataset,
    split: str,
    top: int,
    max_history: int,
    exclude_history: bool = False,
    name: str = "",
) -> Lists:
    """Returns the lists of all users of a split, in its order, from the last `max_history` items before their targets.

    `exclude_history` leaves out all items before the target. `name` is shown with the progress.
    """
    sequences = dataset.split(split)
    parts = []
    for start in progress(range(0, len(sequences), USERS_AT_A_TIME), f"evaluate {name or split}"):
        some = sequences.read(np.arange(start, min(start + USERS_AT_A_TIME, len(sequences))))
        # Not [-max_history:], which is everything if it is 0.
        histories = [sequence.items[max(0, len(sequence.items) - 1 - max_history) : -1] for sequence in some]
        exclude = [sequence.items[:-1] for sequence in some] if exclude_history else None
        parts.append(source.recommend([sequence.user_id for sequence in some], histories, top, exclude))
    return Lists(np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts]))


def ranks(lists: Mapping[str, Lists], targets: np.ndarray) -> dict[str, np.ndarray]:
    """Returns int32[users] for each source, the ranks of the targets int[users]; 0 for one that is not listed."""
    return {name: item_ranks(of_source.items, targets) for name, of_source in lists.items()}
