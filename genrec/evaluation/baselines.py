"""Most popular: everyone gets the items with the most training interactions. What a model must beat to be of use."""

from collections.abc import Iterator

import numpy as np

from genrec.data.dataset import Dataset, Sequence, Sequences

CHUNK = 8192  # records read at a time


def popularity(dataset: Dataset) -> np.ndarray:
    """int64[items]: training interactions of each item of the catalogue."""
    counts = np.zeros(len(dataset.catalogue), np.int64)
    for records in _chunks(dataset.split("train")):
        counts += np.bincount(np.concatenate([record.items for record in records]), minlength=len(counts))
    return counts


def most_popular(dataset: Dataset, split: str) -> np.ndarray:
    """Ranks of a split's targets in the list of all items by popularity; equally popular ones in catalogue order.

    The list is the whole catalogue, the same for every user; nothing is removed from it. With the popularities
    (2, 5, 2), the list is items 1, 0, 2, and a user whose target is item 2 gets rank 3.

    Args:
      dataset: any prepared data set.
      split: "validation" or "test".

    Returns:
      int32[users], 1 is the first place, in the order of the split.
    """
    order = np.argsort(-popularity(dataset), kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(1, len(order) + 1, dtype=np.int32)
    targets = [record.items[-1] for records in _chunks(dataset.split(split)) for record in records]
    return place[np.array(targets, np.int64)]


def _chunks(sequences: Sequences) -> Iterator[list[Sequence]]:
    for start in range(0, len(sequences), CHUNK):
        yield sequences.read(np.arange(start, min(start + CHUNK, len(sequences))))
