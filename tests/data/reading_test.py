"""Files of all three formats give the same table, ids stay text, and errors name the line."""

import gzip
import json
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.data import reading
from genrec.data.errors import DataError

ROWS = [
    {"user_id": "007", "item_id": "a", "timestamp": "10"},
    {"user_id": "7", "item_id": "b", "timestamp": "20"},
]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv():
    return "user_id,item_id,timestamp\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)


def as_jsonl():
    return "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.jsonl.gz", "log.parquet"])
def test_every_format_gives_the_same_rows_with_text_ids(tmp_path, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        content = (as_csv() if ".csv" in name else as_jsonl()).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert reading.read_table(path).table.to_pylist() == ROWS


def test_integer_ids_become_text(tmp_path):
    path = tmp_path / "log.parquet"
    pyarrow.parquet.write_table(
        pa.table({"user_id": [7, 8], "item_id": pa.array(["x", "y"]).dictionary_encode()}), path
    )
    table = reading.read_table(path).table
    assert table["user_id"].to_pylist() == ["7", "8"]
    assert table["item_id"].to_pylist() == ["x", "y"]
    lines = write(tmp_path, "log.jsonl", '{"user_id": 7, "item_id": "x"}\n{"user_id": "007", "item_id": "x"}\n')
    assert reading.read_table(lines).table["user_id"].to_pylist() == ["7", "007"]


def test_float_ids_are_refused(tmp_path):
    path = tmp_path / "log.parquet"
    pyarrow.parquet.write_table(pa.table({"user_id": [7.0, None]}), path)
    with pytest.raises(DataError, match="user_id.*double"):
        reading.read_table(path)


def test_rows_have_the_line_numbers_of_the_file(tmp_path):
    source = reading.read_table(write(tmp_path, "items.csv", 'item_id,title\na,"two\nlines"\n\nb,one\n'))
    assert source.table["item_id"].to_pylist() == ["a", "b"]
    assert [source.where(row) for row in range(2)] == ["line 2", "line 5"]
    source = reading.read_table(write(tmp_path, "items.jsonl", '{"item_id": "a"}\n\n{"item_id": "b", "title": "x"}\n'))
    assert source.where(1) == "line 3"
    assert source.table["title"].to_pylist() == [None, "x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "log.csv",
            'user_id,item_id\na,"b\nb"\na,b,c\na\n',
            "2 rows.* line 4 has 3; line 5 has 1",
        ),
        ("log.csv", "user_id,user_id\na,b\n", "line 1.*'user_id'"),
        ("log.csv", "user_id,item_id\n", "has no rows"),
        ("log.csv", "", "line 1.*empty"),
        ("log.jsonl", '{"user_id": "a"}\n{"user_id"\n', "line 2.*JSON"),
        ("log.jsonl", "[1]\n", "line 1.*object"),
        ("log.jsonl", '{"user_id": 1.5}\n', "line 1.*user_id.*1.5"),
        ("log.parquet", "no parquet", "log.parquet.*as parquet"),
        ("log.xlsx", "", r"log.xlsx.*\.csv"),
        ("log.jsonl", '{"user_id": ' + "9" * 5000 + "}\n", "line 1.*not JSON"),
        ("log.jsonl", "[" * 100_000, "line 1.*not JSON"),
        ("log.jsonl", '{"title": "\\ud800"}\n', "log.jsonl, line 1, column title"),
        ("log.csv", "user_id,item_id\na," + "b" * 200_000 + ",c\n", "1 rows.*line 2 has 3"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        reading.read_table(write(tmp_path, name, content))


def test_a_malformed_row_that_is_not_utf8_is_named_and_prints_nothing(tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    (tmp_path / "log.csv").write_bytes(b"user_id,item_id\na,b\n\x80,b,c\n")
    with pytest.raises(DataError, match="log.csv, line 3.*UTF-8.*iconv"):
        reading.read_table(tmp_path / "log.csv")
    assert printed == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="absent.csv"):
        reading.read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "content",
    [{"user_id": ["x" * 1_000_000]}, {"user_id": {"x" * 1_000_000: 1}}, {"timestamp": ["x"] * 100_000}],
)
def test_a_message_shows_the_beginning_of_a_long_cell(tmp_path, content):
    with pytest.raises(DataError) as caught:
        reading.read_table(write(tmp_path, "log.jsonl", json.dumps(content) + "\n"))
    assert len(str(caught.value)) < 500 + len(str(tmp_path)) and "'x" in str(caught.value)


def test_integers_beyond_64_bits_are_kept_as_text(tmp_path):
    path = write(tmp_path, "items.jsonl", f'{{"item_id": "a", "size": {2**70}}}\n')
    assert reading.read_table(path).table["size"].to_pylist() == [str(2**70)]
