"""Published text files: blocks that cut lines, values of mixed types, lines that are named when they are broken."""

import gzip
import json

import numpy as np
import published
import pyarrow as pa
import pytest
from etils import epath

from genrec.data.errors import DataError
from genrec.data.reading import SourceTable
from genrec.data.sources import parsing


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_blocks_hold_whole_lines_with_their_numbers(tmp_path, monkeypatch, size):
    path = published.put(tmp_path, "x.txt.gz", "\ufeffa::b\n\nc::d::e\r\nf::g")
    monkeypatch.setattr(parsing, "BLOCK_BYTES", size)
    blocks = list(parsing.byte_blocks(epath.Path(path)))
    assert b"".join(block for _, block in blocks) == gzip.decompress(path.read_bytes()).removeprefix(b"\xef\xbb\xbf")
    source = parsing.cells(epath.Path(path), "::", ("x", "y"))
    assert source.table.to_pylist() == [{"x": "a", "y": "b"}, {"x": "c", "y": "d::e"}, {"x": "f", "y": "g"}]
    assert [source.where(row) for row in range(3)] == ["line 1", "line 3", "line 4"]


def test_json_of_mixed_types_is_converted_and_what_is_none_is_named(tmp_path):
    types = {"id": pa.string(), "rating": pa.float64(), "time": pa.int64()}
    rows = [
        {"id": "a", "rating": 5, "time": 7, "more": [{"x": 1}]},
        {"id": 12, "rating": "4.5", "time": "8"},
        {"id": None},
    ]
    path = epath.Path(published.put(tmp_path, "x.jsonl", published.lines(rows) + "\n"))
    assert parsing.json_lines(path, types).table.to_pylist() == [
        {"id": "a", "rating": 5.0, "time": 7},
        {"id": "12", "rating": 4.5, "time": 8},
        {"id": None, "rating": None, "time": None},
    ]
    for broken in ("{", "[1]", json.dumps({"time": "soon"}), "\xff"):
        published.put(tmp_path, "x.jsonl", published.lines(rows) + broken + "\n", "latin-1")
        with pytest.raises(DataError, match="line 4"):
            parsing.json_lines(path, types)


def test_csv_names_a_missing_column_and_a_wrong_type(tmp_path):
    path = epath.Path(published.put(tmp_path, "x.csv", 'a,b,c\n"1,5",2,\n3,4,x\n'))
    assert parsing.csv(path, {"a": pa.string(), "b": pa.int8()}).table.to_pylist() == [
        {"a": "1,5", "b": 2},
        {"a": "3", "b": 4},
    ]
    with pytest.raises(DataError, match="column d is missing.*a, b, c"):
        parsing.csv(path, {"d": pa.string()})
    with pytest.raises(DataError, match="x"):
        parsing.csv(path, {"c": pa.int64()})


def test_rows_that_an_open_quotation_mark_takes_are_missed(tmp_path):
    types = {"a": pa.string(), "b": pa.string()}
    path = epath.Path(published.put(tmp_path, "x.csv", 'a,b\n1,"x\ny"\n2,"z"\n'))
    assert parsing.csv(path, types).table["b"].to_pylist() == ["x\ny", "z"]
    published.put(tmp_path, "x.csv", 'a,b\n1,"x\n2,y"\n3,"z"\n4,"w\n5,"v"\n')
    with pytest.raises(DataError, match=r"x\.csv: a quotation mark is not closed"):
        parsing.csv(path, types)


def test_repeats_keep_the_first_row_and_its_line():
    table = pa.table({"user_id": ["u", "u", "u", None], "item_id": ["a", "a", "b", "a"], "timestamp": [1, 1, 1, 1]})
    chunked = pa.concat_tables([table, table])
    source = parsing.without_repeats(SourceTable(chunked, "x", "line", first=2))
    assert [source.where(row) for row in range(len(source))] == ["line 2", "line 4", "line 5"]
    np.testing.assert_array_equal(parsing.codes(chunked["item_id"]), [0, 0, 1, 0, 0, 0, 1, 0])
