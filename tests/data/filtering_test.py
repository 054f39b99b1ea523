"""k-core against its definition, and errors of filters that leave nothing name the setting."""

import numpy as np
import pyarrow as pa
import pytest

from genrec.config import Data
from genrec.data import filtering
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions


def log(**columns):
    columns = {"users": [0, 0, 1], "items": [0, 1, 0], "timestamps": [1, 2, 3]} | columns
    columns = {name: np.asarray(values) for name, values in columns.items()}
    return Interactions(user_ids=np.array(["a", "b", "c"], object), **columns)


def brute_force(users, items, k):
    rows = list(range(len(users)))
    while True:
        fine = [
            r
            for r in rows
            if sum(users[q] == users[r] for q in rows) >= k and sum(items[q] == items[r] for q in rows) >= k
        ]
        if fine == rows:
            return fine
        rows = fine


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4])
def test_k_core_is_the_largest_set_with_k_interactions_each(k):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        users, items = rng.integers(0, 12, 60), rng.integers(0, 15, 60)
        assert np.flatnonzero(filtering.k_core(users, items, k)).tolist() == brute_force(users, items, max(k, 0))


def test_dropping_an_item_drops_a_user_with_too_few_others():
    # User 1 has two interactions, but item 2 has only that one.
    kept = filtering.k_core(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 2, 0, 1]), 2)
    assert kept.tolist() == [True, True, False, False, True, True]


def test_event_types_and_ratings_are_filtered():
    events = log(event_types=np.array(["play", "skip", "like"], object), ratings=[5.0, 4.0, np.nan])
    chosen = filtering.by_config(events, Data(k_core=0, event_types=("play", "like")))
    assert chosen.timestamps.tolist() == [1, 3]
    assert filtering.by_config(events, Data(k_core=0, min_rating=4)).timestamps.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({}, Data(k_core=3), "data.k_core=3"),
        ({}, Data(event_types=("play",)), "data.event_types.* event_type"),
        ({}, Data(min_rating=3), "data.min_rating.* rating"),
        ({"event_types": ["skip"] * 3}, Data(event_types=("play",)), "data.event_types.*skip"),
        ({"ratings": [1.0, 2.0, 3.0]}, Data(min_rating=4), "data.min_rating=4.* 3"),
    ],
)
def test_filters_that_leave_nothing_are_named(columns, config, message):
    with pytest.raises(DataError, match=message):
        filtering.by_config(log(**columns), config)


def test_counts_of_parts_merge_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    whole = log(
        users=rng.integers(0, 3, 30),
        items=np.arange(30),
        timestamps=np.arange(30),
        event_types=rng.choice(["play", "skip", "like"], 30).astype(object),
        ratings=rng.choice([1.0, 2.0, 5.0, np.nan], 30),
    )
    config = Data(event_types=("play", "like"), min_rating=2.0)
    parts = [filtering.by_event(whole.select(np.arange(30) % 3 == part), config)[1] for part in range(3)]
    assert filtering.merge(parts) == filtering.by_event(whole, config)[1]


def test_the_catalogue_has_the_chosen_items_and_their_rows():
    items = pa.table({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]})
    kept, rows = filtering.catalogue(items, np.array([2, 0, 1]), keep_all=False)
    assert kept["item_id"].to_pylist() == ["a", "c"] and kept["source_row"].to_pylist() == [0, 2]
    assert rows[[0, 2]].tolist() == [0, 1]
    assert len(filtering.catalogue(items, np.array([2, 0, 1]), keep_all=True)[0]) == 3
    with pytest.raises(DataError, match="source_row"):
        filtering.catalogue(kept, np.array([1, 1]), keep_all=True)
