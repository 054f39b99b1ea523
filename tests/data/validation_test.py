"""The validator reports every problem with file, line, column and remedy, and passes valid data unchanged."""

import numpy as np
import pyarrow as pa
import pytest

from genrec.config import Data
from genrec.data import reading, validation
from genrec.data.errors import DataError

LOG = {"user_id": ["u1", "u1", "u2"], "item_id": ["a", "b", "a"], "timestamp": ["1", "2", "3"]}
ITEMS = {"item_id": ["a", "b"], "title": ["First", "Second"]}


def table(columns, name, unit="line", first=2):
    return reading.SourceTable(pa.table(columns), name, unit, first=first)


def check(log=None, items=None, users=None, **settings):
    return validation.check(
        reading.Tables(
            table(LOG | (log or {}), "log.csv"),
            table(ITEMS if items is None else items, "items.csv"),
            None if users is None else table(users, "users.csv"),
        ),
        Data(**settings),
    )


def message(**tables):
    with pytest.raises(DataError) as caught:
        check(**tables)
    return str(caught.value)


def test_valid_data_passes():
    checked = check(users={"user_id": ["u1"], "country": ["NG"]})
    log = checked.interactions
    assert log.user_ids[log.users].tolist() == LOG["user_id"]
    assert log.items.tolist() == [0, 1, 0]
    assert log.timestamps.tolist() == [1_000_000, 2_000_000, 3_000_000]
    assert checked.catalogue.text_fields == ("title",) and checked.time.column == "timestamp"


def test_order_stands_in_for_times():
    log = {"user_id": ["u", "u"], "item_id": ["a", "b"], "order": [1, 0]}
    checked = validation.check(reading.Tables(table(log, "log.csv"), table(ITEMS, "items.csv")), Data())
    assert checked.interactions.timestamps.tolist() == [1, 0] and checked.time.column == "order"


@pytest.mark.parametrize(
    ("log", "parts"),
    [
        (
            {"item_id": ["a", "x", "y"]},
            ["log.csv, column item_id: unknown items (2 rows): line 3: 'x'", "Add them to items.csv"],
        ),
        (
            {"timestamp": ["1", "soon", "3"]},
            ["column timestamp: unparsable", "line 3: 'soon'", "Unix time or ISO 8601", "data.time_format"],
        ),
        ({"timestamp": ["1", "", None]}, ["missing timestamp (2 rows): line 3; line 4"]),
        (
            {"timestamp": ["1700000000", "1700000000000", "1700000001"]},
            ["several units: 2 such as 1700000000 (seconds), 1 such as 1700000000000 (milliseconds)"],
        ),
        (
            {"timestamp": ["1", "2300-01-01", "3"]},
            ["after the year 2200 (1 row): line 3", "data.time_unit"],
        ),
        ({"user_id": ["u1", " ", "u2"]}, ["column user_id: empty id (1 row): line 3", "Give every row an id"]),
        ({"rating": ["5", "good", ""]}, ["column rating: not a number (1 row): line 3: 'good'"]),
        (
            {"user_id": ["u1", "u1", "u1"], "item_id": ["a", "a", "a"], "timestamp": ["1", "2", "1"]},
            ["same interaction twice", "(1 row): line 4"],
        ),
    ],
)
def test_problems_of_interactions_are_reported(log, parts):
    text = message(log=log)
    for part in ("nothing was written", *parts):
        assert part in text


def test_the_same_item_at_another_time_or_by_another_event_is_no_duplicate():
    log = {
        "user_id": ["u"] * 3,
        "item_id": ["a"] * 3,
        "timestamp": ["1", "1", "2"],
        "event_type": ["play", "like", "play"],
    }
    assert len(check(log=log).interactions) == 3


@pytest.mark.parametrize(
    ("items", "parts"),
    [
        (
            {"item_id": ["a", "a", "b"], "title": ["x"] * 3},
            ["items.csv, column item_id: id appears twice (1 row): line 3: 'a'"],
        ),
        (
            {"item_id": ["a", "b"], "title": ["x", "  "]},
            ["empty text", "(1 row): line 3", "Fill in at least one text field"],
        ),
        (
            {"item_id": ["a", "b"], "name": ["x", "y"]},
            ["none of the text columns title, description", "data.text_fields"],
        ),
        ({"title": ["a", "b"]}, ["items.csv: column item_id is missing (found: title)", "Add or rename"]),
        ({"item_id": ["a", "b"], "vector": ["1 2", "1 nan"]}, ["column vector: not a number", "(1 row): line 3"]),
        ({"item_id": ["a", "b"], "vector": ["[1, 2]", "[1, x]"]}, ["column vector: not a number", "(1 row): line 3"]),
        ({"item_id": ["a", "b"], "vector": [[1.0, 2.0], [1.0, np.nan]]}, ["column vector: not a number"]),
        ({"item_id": ["a", "b"], "vector": [[1.0, 2.0], [1.0]]}, ["wrong width", "(1 row): line"]),
        ({"item_id": ["a", "b"], "vector": [1.0, 2.0]}, ["column vector: has type double", "Write lists of numbers"]),
    ],
)
def test_problems_of_items_are_reported(items, parts):
    text = message(items=items)
    for part in parts:
        assert part in text


def test_vectors_in_text_and_in_lists_are_the_same():
    for vectors in (
        ["1 2.5e0", "[-3, .5]"],
        [[1.0, 2.5], [-3.0, 0.5]],
        pa.array([[1, 2.5], [-3, 0.5]], pa.list_(pa.float64(), 2)),
    ):
        checked = check(items={"item_id": ["a", "b"], "vector": vectors})
        assert checked.catalogue.items["vector"].to_pylist() == [[1.0, 2.5], [-3.0, 0.5]]
        assert checked.catalogue.text_fields == ()


def test_an_item_needs_a_text_or_a_vector():
    items = {"item_id": ["a", "b"], "title": ["x", ""], "vector": [None, [1.0, 2.0]]}
    assert check(items=items).catalogue.items["vector"].to_pylist() == [None, [1.0, 2.0]]
    items["vector"] = ["[]", "[1, 2]"]
    assert check(items=items).catalogue.items["vector"].to_pylist() == [None, [1.0, 2.0]]
    items["vector"] = [[1.0, 2.0], None]
    assert "neither title nor a vector describes the item (1 row): line 3" in message(items=items)


def test_users_are_unique():
    assert "users.csv, column user_id: id appears twice (1 row): line 3: 'u1'" in message(
        users={"user_id": ["u1", "u1"]}
    )


def test_all_problems_are_reported_at_once_with_few_examples():
    n = 1000
    log = {"user_id": ["u"] * n, "item_id": ["x"] * n, "timestamp": ["never"] * n}
    text = message(log=log, items={"item_id": ["a", "a"], "title": ["t", "t"]})
    assert text.startswith("3 problems")
    assert "unknown items (1,000 rows)" in text and "unparsable timestamp (1,000 rows)" in text and "twice" in text
    assert len(text) < 1000


def test_missing_columns_do_not_hide_other_problems():
    source = reading.Tables(table({"user": ["u"], "item_id": ["a"]}, "log.csv"), table({"item_id": ["a"]}, "items.csv"))
    with pytest.raises(DataError) as caught:
        validation.check(source, Data())
    for part in (
        "column user_id is missing (found: user, item_id)",
        "column timestamp is missing",
        "none of the text columns",
    ):
        assert part in str(caught.value)


def test_a_million_rows_are_checked():
    n = 1_000_000
    rng = np.random.default_rng(0)
    log = {
        "user_id": pa.array(rng.integers(0, 50_000, n)).cast(pa.string()),
        "item_id": pa.array(rng.integers(0, 20_000, n)).cast(pa.string()),
        "timestamp": pa.array(np.arange(n)).cast(pa.string()),
    }
    items = {"item_id": pa.array(range(20_000)).cast(pa.string()), "title": ["t"] * 20_000}
    assert len(check(log=log, items=items).interactions) == n


def test_messages_show_the_beginning_of_long_cells_and_lists_of_columns():
    long = "x" * 100_000
    for tables in (
        {"log": {"item_id": [long] * 3}},
        {"log": {"timestamp": [long] * 3}},
        {"log": {"rating": [long] * 3}},
        {"items": {"item_id": [long, long], "title": ["a", "b"]}, "log": {"item_id": [long] * 3}},
        {"users": {"user_id": [long, long]}},
        {"items": {f"column {number}": ["a", "b"] for number in range(1000)}},
    ):
        found = message(**tables)
        assert len(found) < 2500 and max(map(len, found.split("\n"))) < 1500


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"log": {"event_type": [["play"], ["play"], []]}}, "log.csv, column event_type: has type list"),
        ({"log": {"rating": [{"stars": 5}] * 3}}, "log.csv, column rating: has type struct"),
        ({"log": {"rating": pa.array([5, 6, 7], pa.date32())}}, "log.csv, column rating: has type date"),
        ({"log": {"rating": pa.array([5, 6, 7], pa.duration("s"))}}, "log.csv, column rating: has type duration"),
        ({"log": {"timestamp": [b"1", b"\xff", b"3"]}}, "log.csv, column timestamp: has type binary"),
        ({"log": {"timestamp": pa.array([1, 2**63, 3], pa.uint64())}}, "line 3: 9223372036854775808"),
        ({"items": {"item_id": ["a", "b"], "title": [{"en": "A"}] * 2}}, "items.csv, column title: has type struct"),
    ],
)
def test_cells_that_are_no_text_and_no_numbers_are_named(tables, named):
    assert named in message(**tables)
