"""Generated logs have the sizes, the skew and the repetitions that they are asked for."""

import dataclasses

import numpy as np
import pyarrow.parquet
import pytest

from genrec.config import ConfigError, Data
from genrec.data import generated_logs
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.generated_logs import LogSize, generate
from genrec.data.prepare import prepare

SIZE = LogSize(rows=2000, users=40, items=60, files=3, duplicates=0.2, repeats=0.3, id_characters=40)


def rows_of(folder):
    files = sorted(folder.glob("log-*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_a_log_has_its_rows_in_files_and_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(generated_logs, "BLOCK_ROWS", 256)
    generate(SIZE, tmp_path / "log")
    rows = rows_of(tmp_path / "log")
    assert len(rows) == 2000 and len(list((tmp_path / "log").glob("log-*"))) == 3
    assert all(len(row["user_id"]) == len(row["item_id"]) == 40 for row in rows)
    assert 0.15 < 1 - len({tuple(row.values()) for row in rows}) / len(rows) < 0.25
    data = Data(
        interactions=str(tmp_path / "log" / "log-*.parquet"), items=str(tmp_path / "log" / "items.parquet"), k_core=2
    )
    with pytest.raises(DataError, match="same interaction twice"):
        prepare(data, tmp_path / "dataset")
    data.repeated = "drop"
    prepare(data, tmp_path / "dataset")
    assert Dataset(tmp_path / "dataset").statistics["interactions_before_filtering"] == 2000


def test_the_same_seed_gives_the_same_log(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        generate(dataclasses.replace(SIZE, seed=seed), tmp_path / name)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two") != rows_of(tmp_path / "other")


@pytest.mark.parametrize("rows", [2000, 10**8, 10**11])
def test_times_cover_the_span_in_logs_of_any_size(rows):
    size = dataclasses.replace(SIZE, rows=rows, duplicates=0)
    (first,), (last,) = (generated_logs.log_blocks(size, start, start + 1000) for start in (0, rows - 1000))
    first, last = (np.sort(block["timestamp"].to_numpy()) - generated_logs.FIRST_TIME for block in (first, last))
    assert first[0] == 0 and 0 <= first[-1] <= last[0]
    assert last[-1] == generated_logs.SPAN * (rows - 1) // rows


@pytest.mark.parametrize("skew", [0, 0.8, 1, 1.5])
def test_popularity_follows_the_power_law(skew):
    size = LogSize(rows=50_000, users=10, items=100, item_skew=skew, user_skew=0, repeats=0)
    (block,) = generated_logs.log_blocks(size, 0, size.rows)
    counts = np.sort(block["item_id"].combine_chunks().value_counts().field("counts").to_numpy())[::-1]
    assert len(counts) == 100 or skew > 1
    wanted = np.arange(1, 101) ** -float(skew)
    assert abs(counts[10:50].sum() / counts.sum() - (wanted / wanted.sum())[10:50].sum()) < 0.08
    assert (counts[0] > 3 * counts[50]) == (skew > 0)


def test_a_folder_with_files_and_a_size_out_of_range_are_refused(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(DataError, match="empty"):
        generate(SIZE, tmp_path)
    with pytest.raises(ConfigError, match="repeats"):
        generate(dataclasses.replace(SIZE, repeats=1.5), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
