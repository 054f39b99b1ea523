"""OTTO as published: sessions of events in milliseconds, as JSON Lines."""

import json

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import otto, parsing


def test_events_become_interactions_with_types(tmp_path):
    tables = otto.read(published.otto(tmp_path))
    log = tables.interactions.table.to_pylist()
    assert [(row["user_id"], row["item_id"], row["event_type"]) for row in log] == [
        ("0", "1517085", "clicks"),
        ("0", "1517085", "carts"),
        ("0", "59625", "orders"),
        ("12899779", "59625", "clicks"),
    ]
    assert log[1]["timestamp"].isoformat() == "2022-07-31T22:00:00.026000+00:00"
    assert tables.items.table["item_id"].to_pylist() == ["1517085", "59625"]


def test_blocks_give_the_same_as_the_whole(tmp_path, monkeypatch):
    folder = published.otto(tmp_path)
    whole = otto.read(folder).interactions.table
    monkeypatch.setattr(parsing, "BLOCK_BYTES", 64)
    assert otto.read(folder).interactions.table.equals(whole)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"session": 1, "events": [', "line 2"),
        ("[]", "line 2"),
        (json.dumps({"session": 1, "events": [{"aid": 1}]}), "lacks"),
    ],
)
def test_broken_lines_are_named(tmp_path, line, message):
    published.put(tmp_path, "train.jsonl", '{"session": 0, "events": [{"aid": 1, "ts": 2, "type": "clicks"}]}\n' + line)
    with pytest.raises(DataError, match=message):
        otto.read(tmp_path)
