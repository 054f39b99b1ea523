import numpy as np
import pytest

from genrec.data.dataset import Sequence
from genrec.data.timestamps import HOUR
from genrec.input_pipeline import flat_sequences


class InMemory:
    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int32)
        self.items = [(100 * number + np.arange(length)).astype(np.int32) for number, length in enumerate(lengths)]

    def read(self, indices):
        return [Sequence(f"{i}", self.items[i], HOUR * np.arange(self.lengths[i], dtype=np.int64)) for i in indices]


class Users:
    """Stands for `Tokenizer` and `UserFeatures`."""

    @property
    def user_features(self):
        return self

    def user(self, user_id):
        return 10 + int(user_id)

    def row(self, user_id):
        return int(user_id) - 1


@pytest.mark.parametrize("at_once", [1, 3, 8192])
def test_load_reads_all_sequences_in_order(monkeypatch, at_once):
    monkeypatch.setattr(flat_sequences, "SEQUENCES_AT_ONCE", at_once)
    sequences = InMemory([3, 0, 1, 5, 2, 0, 4])
    loaded = flat_sequences.load(sequences, Users())
    assert loaded.users.tolist() == [10, 11, 12, 13, 14, 15, 16]
    assert loaded.rows.tolist() == [-1, 0, 1, 2, 3, 4, 5]
    for number, items in enumerate(sequences.items):
        np.testing.assert_array_equal(loaded.items[loaded.start[number] : loaded.start[number + 1]], items)
    assert loaded.start[-1] == len(loaded.items) == 15


def test_read_keeps_the_order_asked_for():
    found = flat_sequences.read(InMemory([3, 0, 1, 5]), np.array([3, 2, 3]), Users())
    assert found.users.tolist() == [13, 12, 13]
    assert found.hours.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4]
    assert found.items.tolist() == [300, 301, 302, 303, 304, 200, 300, 301, 302, 303, 304]
    assert found.start.tolist() == [0, 5, 6, 11]
    nothing = flat_sequences.read(InMemory([3]), np.array([], int), Users())
    assert nothing.items.tolist() == [] and nothing.start.tolist() == [0]
