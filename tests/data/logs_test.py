"""A log in several files is read as one, and its blocks add up to it."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.data import logs, reading
from genrec.data.errors import DataError


def write(folder):
    """Writes files of 40 rows in all formats, with blank lines and newlines in cells; returns the rows."""
    rows = [{"user_id": f"{n:03d}", "item_id": f"i{n % 7}", "timestamp": str(n), "shop": "a"} for n in range(120)]
    lines = [",".join(row.values()) for row in rows]
    lines[9] = '009,i2,9,"two\nlines"'
    (folder / "log-1.csv").write_text("user_id,item_id,timestamp,shop\n\n" + "\n".join(lines[:40]) + "\n")
    (folder / "log-2.jsonl").write_text("".join(f"{json.dumps(row)}\n\n" for row in rows[40:80]))
    table = pa.Table.from_pylist([{name: row[name] for name in ("timestamp", "user_id", "item_id")} for row in rows])
    pyarrow.parquet.write_table(table.slice(80), folder / "log-3.parquet")
    return rows


def test_files_of_a_pattern_are_one_log_in_the_order_of_their_names(tmp_path):
    rows = write(tmp_path)
    log = logs.read(tmp_path / "log-*")
    for column in ("user_id", "item_id", "timestamp"):
        assert log.table[column].to_pylist() == [row[column] for row in rows]
    assert log.name == str(tmp_path / "log-*")
    assert [log.where(row) for row in (0, 10, 41, 81)] == [
        "log-1.csv line 3",
        "log-1.csv line 14",
        "log-2.jsonl line 3",
        "log-3.parquet row 2",
    ]


@pytest.mark.parametrize("name", ["log-1.csv", "log-2.jsonl", "log-3.parquet"])
def test_blocks_add_up_to_the_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(reading, "BLOCK_ROWS", 7)
    write(tmp_path)
    whole = logs.read(tmp_path / name)
    blocks = list(logs.blocks(tmp_path / name, 300))
    assert sum(len(block) > 0 for block in blocks) > 1
    rows = [(block, row) for block in blocks for row in range(len(block))]
    assert [block.where(row) for block, row in rows] == [whole.where(row) for row in range(len(whole))]
    assert pa.concat_tables([block.table for block in blocks if len(block)]).equals(whole.table)
    assert "shop" not in whole.table.column_names or whole.table["shop"].null_count == len(whole)


def test_numbers_and_text_in_jsonl_have_one_type_in_all_blocks(tmp_path):
    values = [5, 4.5, "3", None, 1e-7]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"rating": value}) + "\n" for value in values))
    types = {block.table.schema.field("rating").type for block in logs.blocks(tmp_path / "log.jsonl", 5) if len(block)}
    assert types == {pa.string()}
    assert logs.read(tmp_path / "log.jsonl").table["rating"].to_pylist() == ["5", "4.5", "3", None, "1e-07"]


def test_a_column_that_a_block_lacks_is_null(tmp_path):
    source = logs.complete(reading.from_columns({"user_id": ["a", "b"]}, "log"), ["user_id", "rating"])
    assert source.table.to_pylist() == [{"user_id": "a", "rating": None}, {"user_id": "b", "rating": None}]


def test_files_of_different_types_and_patterns_without_files_are_refused(tmp_path):
    for number, values in enumerate([[1.5], ["text"]]):
        pyarrow.parquet.write_table(pa.table({"user_id": ["a"], "rating": values}), tmp_path / f"{number}.parquet")
    with pytest.raises(DataError, match=r"\*.parquet.*rating"):
        logs.read(tmp_path / "*.parquet")
    with pytest.raises(DataError, match=r"\*.csv.*data.interactions"):
        logs.read(tmp_path / "*.csv")


def test_a_path_that_looks_like_a_pattern_can_be_a_file(tmp_path):
    (tmp_path / "log[1].csv").write_text("user_id\na\n")
    assert not logs.is_pattern(tmp_path / "log[1].csv") and logs.is_pattern(tmp_path / "log[12].csv")
    assert len(logs.read(tmp_path / "log[1].csv")) == 1
