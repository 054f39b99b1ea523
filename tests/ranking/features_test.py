"""Features of candidates, computed by hand on a small catalogue."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue, Sequence
from genrec.data.errors import DataError
from genrec.ranking import features
from genrec.ranking.features import Features

CATALOGUE = Catalogue(pa.table({"item_id": list("abcd"), "kind": ["m", "p", "m", None]}), ())
USERS = pa.table({"user_id": ["u1", "u2", "u3"], "country": ["DE", "FR", None]})
TRAIN = [("u1", [0, 2, 0]), ("u2", [1, 1]), ("u3", [3])]
POPULARITY = np.array([2, 2, 1, 1])
CONTENT = np.array([[2.0, 0], [0, 1], [1, 1], [0, 0]])


class Split:
    def __init__(self):
        self.sequences = [Sequence(user, np.array(items, np.int32), np.arange(len(items))) for user, items in TRAIN]

    def __len__(self):
        return len(self.sequences)

    def read(self, indices):
        return [self.sequences[index] for index in indices]


def compute(user_ids, histories, items, users=USERS, **columns):
    dataset = SimpleNamespace(catalogue=CATALOGUE, users=users, split=lambda name: Split())
    made = Features.count(dataset, POPULARITY, CONTENT, **columns)
    return made.compute(user_ids, [np.array(history, int) for history in histories], np.array(items))


def test_popularity_and_similarity_to_the_history():
    found = compute(["u1", "u2"], [[1, 0], []], [[0, 1, 2, 3], [0, 1, 2, 3]], item_columns=("kind",))
    np.testing.assert_allclose(np.exp(found["popularity"][0]), np.array([3, 3, 2, 2]) / 10, rtol=1e-6)
    assert found["repeat"].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    # The last item, 0, weighs 1, the one before .8: 5/9 and 4/9.
    half = 0.5**0.5
    np.testing.assert_allclose(found["content of the last item"][0], [1, 0, half, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found["content of the history"][0], [5 / 9, 4 / 9, half, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.exp(found["same kind"][0]) - 0.01, [5 / 9, 4 / 9, 5 / 9, 0], atol=1e-6)
    for name in ("content of the history", "content of the last item"):
        assert not found[name][1].any()  # without a history


def test_lift_is_relative_to_the_share_of_a_value(monkeypatch):
    monkeypatch.setattr(features, "PRIOR", 2.0)
    found = compute(
        ["u1", "u2", "u3", "nobody"], [[0]] * 4, [[0, 1, 2, 3]] * 4, item_columns=("kind",), user_columns=("country",)
    )
    lift = np.exp(found["country and kind"])
    # Of 6 interactions 3 are with kind m; in DE 3 of 3, in FR 0 of 2.
    np.testing.assert_allclose(lift[0, [0, 2]], (3 + 2 * 0.5) / (3 + 2) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(lift[1, 0], (0 + 2 * 0.5) / (2 + 2) / 0.5, rtol=1e-5)
    assert (lift[2:] == 1).all()


def test_later_items_and_values_have_what_is_known_of_them():
    columns = {"item_columns": ("kind",), "user_columns": ("country",)}
    dataset = SimpleNamespace(catalogue=CATALOGUE, users=USERS, split=lambda name: Split())
    counted = Features.count(dataset, POPULARITY, CONTENT, **columns)
    table = pa.table({"item_id": list("abcdef"), "kind": ["p", "p", "m", None, "new", None]})
    content = np.concatenate([counted.content, features.unit(np.array([[3.0, 0], [0, 2]]))])
    grown = counted.over(Catalogue(table, ()), content)
    items = np.arange(6)[None]
    before, after = (one.compute(["u1"], [np.array([1])], items[:, :n]) for one, n in ((counted, 4), (grown, 6)))
    assert list(before) == counted.names
    for name, values in before.items():
        np.testing.assert_array_equal(values[0, 1:], after[name][0, 1:4])
    np.testing.assert_allclose(np.exp(after["popularity"][0, 4:]), 0.1, rtol=1e-6)
    np.testing.assert_allclose(after["content of the last item"][0, 4:], [0, 1], atol=1e-6)
    assert after["country and kind"][0, 0] == after["country and kind"][0, 1]  # the cell of "a" has changed
    assert after["country and kind"][0, 4:].tolist() == [0, 0]
    np.testing.assert_allclose(np.exp(after["same kind"][0]) - 0.01, [1, 1, 0, 0, 0, 0], atol=1e-6)


def test_the_names_of_features_tell_their_columns():
    dataset = SimpleNamespace(catalogue=CATALOGUE, users=USERS)
    assert Features.columns_in({"SASRec", "repeat"}, dataset) == ((), ())
    assert Features.columns_in({"same kind", "country and kind"}, dataset) == (("kind",), ("country",))


def test_unknown_columns_are_an_error():
    with pytest.raises(DataError, match="color"):
        compute(["u1"], [[0]], [[0]], item_columns=("color",))
    with pytest.raises(DataError, match="age"):
        compute(["u1"], [[0]], [[0]], user_columns=("age",))
    with pytest.raises(DataError, match="no users"):
        compute(["u1"], [[0]], [[0]], users=None, user_columns=("age",))
