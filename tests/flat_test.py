import numpy as np
import pytest

from genrec.data import flat
from genrec.data.dataset import Sequence


class InMemory:
    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int32)
        self.items = [(100 * record + np.arange(length)).astype(np.int32) for record, length in enumerate(lengths)]

    def read(self, indices):
        return [Sequence(f"{index}", self.items[index], np.zeros(0)) for index in indices]


@pytest.mark.parametrize("at_once", [1, 3, 8192])
def test_load_is_all_records_in_their_order(monkeypatch, at_once):
    monkeypatch.setattr(flat, "RECORDS_AT_ONCE", at_once)
    sequences = InMemory([3, 0, 1, 5, 2, 0, 4])
    loaded = flat.load(sequences, user_token=lambda user_id: 10 + int(user_id))
    assert loaded.users.tolist() == [10, 11, 12, 13, 14, 15, 16]
    for record, items in enumerate(sequences.items):
        np.testing.assert_array_equal(loaded.items[loaded.start[record] : loaded.start[record + 1]], items)
    assert loaded.start[-1] == len(loaded.items) == 15


def test_read_keeps_the_order_asked_for():
    found = flat.read(InMemory([3, 0, 1, 5]), np.array([3, 2, 3]), user_token=int)
    assert found.users.tolist() == [3, 2, 3]
    assert found.items.tolist() == [300, 301, 302, 303, 304, 200, 300, 301, 302, 303, 304]
    assert found.start.tolist() == [0, 5, 6, 11]
    nothing = flat.read(InMemory([3]), np.array([], int), user_token=int)
    assert nothing.items.tolist() == [] and nothing.start.tolist() == [0]
