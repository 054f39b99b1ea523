"""The most-popular list, worked out by hand on a small data set."""

import numpy as np
import pytest

from genrec.data.dataset import Sequence
from genrec.evaluation import baselines, metrics


class Split:
    def __init__(self, records: list[list[int]]):
        self.records = [
            Sequence(f"u{user}", np.array(items, np.int32), np.arange(len(items))) for user, items in enumerate(records)
        ]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, indices):
        return [self.records[index] for index in indices]


class Dataset:
    """Five items: item 3 has 3 training interactions, items 1 and 2 have 2 each, item 0 has 1, item 4 none."""

    catalogue = range(5)

    def split(self, name: str) -> Split:
        return {
            "train": Split([[3, 1, 2], [3, 1], [3, 2, 0]]),
            "validation": Split([[3, 1, 2, 4], [3, 1, 2]]),
            "test": Split([[3, 1, 2, 4, 0], [3, 1, 2, 3], [3, 2, 0, 1], [3, 2, 0, 2], [3, 2, 0, 4]]),
        }[name]


def test_only_training_interactions_count():
    assert baselines.popularity(Dataset()).tolist() == [1, 2, 2, 3, 0]


def test_ranks_of_targets_over_the_whole_catalogue_with_ties_in_catalogue_order():
    """The list is 3, 1, 2, 0, 4: items 1 and 2 are equally popular, and 1 stands first in the catalogue."""
    ranks = baselines.most_popular(Dataset(), "test")
    assert ranks.tolist() == [4, 1, 2, 3, 5]
    assert baselines.most_popular(Dataset(), "validation").tolist() == [5, 3]
    assert metrics.compute(ranks, (1, 2))["recall@2"] == 2 / 5


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_reading_in_parts_changes_nothing(monkeypatch, chunk):
    whole = baselines.most_popular(Dataset(), "test")
    monkeypatch.setattr(baselines, "CHUNK", chunk)
    np.testing.assert_array_equal(baselines.most_popular(Dataset(), "test"), whole)
