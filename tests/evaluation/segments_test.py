"""Segments of a handful of users, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.errors import DataError
from genrec.evaluation import metrics, segments

CATALOGUE = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": [f"title {n}" for n in range(4)],
        "media_type": ["music", "podcast", "music", None],
        "countries": ["DE|FR", "FR", "", "all"],
        "explicit": [True, False, False, True],
        "duration": [1, 2, 3, 4],
    }
)
USERS = pa.table({"user_id": ["u1", "u3"], "age_band": ["18-24", "50+"], "media_type": ["music", "podcast"]})
TARGETS = np.array([0, 1, 3, 0])
USER_IDS = ["u1", "u2", "u3", "u4"]


def find(columns=(), users=USERS):
    dataset = SimpleNamespace(catalogue=SimpleNamespace(table=CATALOGUE), users=users)
    found = segments.find(dataset, USER_IDS, TARGETS, np.array([1, 2, 7, 2000]), np.array([3, 0, 9, 12]), columns)
    return {name: {k: np.flatnonzero(v).tolist() for k, v in segment.items()} for name, segment in found.items()}


def test_users_by_history_popularity_and_columns_of_few_values():
    assert find() == {
        "history length": {"1": [0], "2": [1], "5-9": [2], "1000+": [3]},
        "item popularity": {"0": [1], "3-4": [0, 3], "10-19": [2]},
        "media_type": {"music": [0, 3], "podcast": [1], "(unknown)": [2]},
        "countries": {"FR": [0, 1, 3], "DE": [0, 3], "all": [2]},
        "explicit": {"true": [0, 2, 3], "false": [1]},
        "age_band": {"18-24": [0], "50+": [2], "(unknown)": [1, 3]},
        "user's media_type": {"music": [0], "podcast": [2], "(unknown)": [1, 3]},
    }


def test_any_column_can_be_named_and_rare_values_are_one_segment(monkeypatch):
    monkeypatch.setattr(segments, "FEW_VALUES", 1)
    assert set(find()) == {"history length", "item popularity"}
    monkeypatch.setattr(segments, "MOST_VALUES", 1)
    found = find(["duration", "age_band"])
    assert found["duration"] == {"1": [0, 3], "(other)": [1, 2]}
    assert found["age_band"] == {"18-24": [0], "(other)": [2], "(unknown)": [1, 3]}
    with pytest.raises(DataError, match="color"):
        find(["color"], users=None)


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["25-34", "25-34", "50+", None, "18-24", "<18"], ["<18", "18-24", "25-34", "50+", "(unknown)"]),
        (["Under 18", "over 65", "over 65", "18-65"], ["Under 18", "18-65", "over 65"]),
        (["10", "9", "10", "-"], ["10", "-", "9"]),
        (["rock", "jazz", "rock"], ["rock", "jazz"]),
    ],
)
def test_values_that_start_with_numbers_are_in_their_order(cells, order):
    assert list(segments.by_value(pa.array(cells))) == order


def test_figures_of_a_segment_are_those_of_its_users():
    ranks = {"model": np.array([1, 0, 3, 2]), "other": np.array([0, 1, 1, 1])}
    measured = segments.measure({"kind": segments.by_range(np.array([1, 2, 1, 1]))}, ranks, (1, 5))
    first, second = measured["kind"]
    assert (first["segment"], first["users"], second["segment"], second["users"]) == ("1", 3, "2", 1)
    assert first["model"] == metrics.compute([1, 3, 2], (1, 5)) and first["other"]["recall@1"] == 2 / 3
    assert second["model"]["recall@5"] == 0 and second["other"]["recall@5"] == 1
    lines = segments.table(measured, ["model", "other"], "recall@1").splitlines()
    assert [line.split() for line in lines[1:]] == [["1", "3", "0.3333", "0.6667"], ["2", "1", "0.0000", "1.0000"]]
