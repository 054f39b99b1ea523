"""A log of any layout: a folder of Parquet files, other names, items whose texts are in the log or nowhere."""

import published
import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec import config, errors
from genrec.data.errors import DataError
from genrec.data.sources import read

NAMES = ("user_id=visitor", "item_id=track", "timestamp=at", "title=name")


def settings(path, **changes) -> config.Data:
    return config.Data(source="table", interactions=str(path), columns=NAMES, **changes)


@pytest.mark.parametrize("names", [("part-0.parquet", "part-1.parquet"), ("day=1/p.parquet", "day=2/part-1.parquet")])
def test_a_folder_of_parquet_files_is_one_log(tmp_path, names):
    times = pa.array([30, 20], pa.timestamp("ms", "UTC"))
    first = pa.table({"visitor": [1, 1], "track": ["a", "b"], "at": times, "name": ["A", None], "more": [1.5, 2.5]})
    second = pa.table({"visitor": [2, 1], "track": ["b", "c"], "at": times, "name": ["B", "C"], "more": [0.5, 2.5]})
    for name, table in zip(names, (first, second), strict=True):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / "log" / name)
    (tmp_path / "log/_SUCCESS").touch()
    data = settings(tmp_path / "log")
    assert len(read.hash_inputs(data)) == 1
    tables = read.read(data)
    read.check_renamed(data, tables.all)
    assert published.sequences(tables) == {"1": ["b", "c", "a"], "2": ["b"]}
    assert tables.items.table.to_pylist() == [
        {"item_id": "a", "title": "A"},
        {"item_id": "b", "title": "B"},  # where the log has it first
        {"item_id": "c", "title": "C"},
    ]
    assert tables.interactions.where(2) == "part-1.parquet row 1"


def test_a_file_with_other_separator_and_no_texts(tmp_path):
    path = published.put(
        tmp_path, "log.csv", "visitor;track;at\nu;a;1588687728923\nu;b;1588687728922\nv;NULL;1588687728922\n"
    )
    tables = read.read(settings(path, text_fields=()))
    assert tables.items.table.to_pylist() == [{"item_id": "a"}, {"item_id": "b"}] and tables.text_fields == ()
    with pytest.raises(DataError, match="empty id.*line 4"):
        published.sequences(tables)


def test_items_may_have_a_file(tmp_path):
    path = published.put(tmp_path, "log.csv", "visitor,track,at\nu,a,5\nu,b,4\n")
    items = published.put(tmp_path, "items.tsv", "track\tname\nb\tB\na\tA\n")
    tables = read.read(settings(path, items=str(items)))
    assert published.sequences(tables) == {"u": ["b", "a"]}


def test_what_is_no_log_is_refused(tmp_path):
    published.put(tmp_path, "log/a.csv", "user_id,item_id\n")
    published.put(tmp_path, "log/b.jsonl", "{}\n")
    with pytest.raises(DataError, match=r"log: has files of 2 formats"):
        read.hash_inputs(settings(tmp_path / "log"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: has no file"):
        read.hash_inputs(settings(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"data\.interactions"):
        read.hash_inputs(config.Data(source="table"))
    path = published.put(tmp_path, "log.csv", "a,b\n1,2\n")
    with pytest.raises(errors.GenrecError, match="user_id"):
        published.sequences(read.read(config.Data(source="table", interactions=str(path))))
