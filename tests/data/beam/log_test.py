"""Steps on the log, without a Beam pipeline: nothing is lost, users are whole, times and ties keep their order."""

import numpy as np
import pyarrow as pa
import pytest

from genrec.config import Data
from genrec.data import reading, splits
from genrec.data.beam import log as beam_log
from genrec.data.beam import runner
from genrec.data.errors import Problems
from genrec.data.interactions import Interactions
from genrec.data.timestamps import Times


def random_log(seed=0, n=200):
    rng = np.random.default_rng(seed)
    columns = {
        "user_id": [f"u{user}" for user in rng.integers(0, 25, n)],
        "item_id": [f"i{item}" for item in np.arange(n) % 50],
        "timestamp": [str(time) for time in rng.integers(0, 20, n)],
    }
    return reading.from_columns(columns, "log.csv")


def checked_blocks(folder, log):
    item_ids = folder / "items.parquet"
    beam_log.write_parquet(pa.table({"item_id": [f"i{item}" for item in range(50)]}), item_ids)
    blocks = beam_log.write_blocks(log, f"{folder}/block", 60, Data())
    arguments = {"columns": tuple(log.table.column_names), "items_name": "items.csv", "item_ids": str(item_ids)}
    return blocks, [beam_log.check_block(block, **arguments, time=Times()) for block in blocks]


def partitions(folder, blocks, number):
    starts = np.cumsum([0, *(block.rows for block in blocks)])
    pieces = {}
    for block, start in zip(blocks, starts, strict=False):
        for partition, piece in beam_log.pieces_of_block((block, int(start)), number):
            pieces.setdefault(partition, []).append(piece)
    # Pieces come in any order.
    return [beam_log.gather_partition(key, values[::-1], str(folder), Data()) for key, values in pieces.items()]


def test_rows_of_blocks_have_the_numbers_of_the_file(tmp_path):
    log = random_log()
    blocks = beam_log.write_blocks(log, f"{tmp_path}/block", 60, Data())
    assert [block.rows for block in blocks] == [60, 60, 60, 20]
    source = runner.load(blocks[2].path)
    assert source.where(3) == log.where(123) == "row 124"
    assert source.table.equals(log.table.slice(120, 60))


def test_partitions_have_whole_users_in_order(tmp_path):
    log = random_log()
    blocks, problems = checked_blocks(tmp_path, log)
    assert all(isinstance(found, Problems) and not found.found for found in problems)
    ids, users = np.unique(log.table["user_id"].to_pylist(), return_inverse=True)
    items = np.array([int(item[1:]) for item in log.table["item_id"].to_pylist()])
    times = np.array(log.table["timestamp"].to_pylist(), np.int64)
    expected = splits.by_user(Interactions(ids, users, items, times))
    seen = {}
    for partition in partitions(tmp_path, blocks, 4):
        part = beam_log.Users.read(partition.path)
        for row, user in enumerate(part.user_ids):
            assert user not in seen
            place = slice(part.sequences.offsets[row], part.sequences.offsets[row + 1])
            seen[user] = (part.first_rows[row], part.sequences.items[place].tolist())
    for row, user in enumerate(ids):
        place = slice(expected.offsets[row], expected.offsets[row + 1])
        assert seen[user] == (np.flatnonzero(users == row)[0], expected.items[place].tolist())
    assert len(seen) == len(ids)


def test_repetitions_are_found_across_blocks(tmp_path):
    log = random_log()
    row = pa.Table.from_pylist([log.table.slice(5, 1).to_pylist()[0]])
    log = reading.SourceTable(pa.concat_tables([log.table, row]), "log.csv")
    blocks, _ = checked_blocks(tmp_path, log)
    parts = partitions(tmp_path, blocks, 4)
    assert sum(part.repeats for part in parts) == 1
    assert [row for part in parts for row in part.repeated] == [200]


@pytest.mark.parametrize("kept", [np.zeros(5, bool), np.array([True, False, False, True, True])])
def test_selected_users_have_interactions(tmp_path, kept):
    sequences = splits.UserSequences(np.array([0, 2, 3, 5]), np.arange(5), np.arange(5))
    users = beam_log.Users(np.array(["a", "b", "c"], object), np.array([0, 7, 3]), sequences).select(kept)
    users.write(str(tmp_path / "users"))
    again = beam_log.Users.read(str(tmp_path / "users"))
    assert again.user_ids.tolist() == (["a", "c"] if kept.any() else [])
    assert again.sequences.items.tolist() == np.flatnonzero(kept).tolist()
    assert again.sequences.lengths.tolist() == ([1, 2] if kept.any() else [])


def test_blocks_of_a_source_of_several_files_name_the_file_and_the_row(tmp_path):
    table = pa.table({"user_id": list("uvwxy"), "item_id": list("abcde"), "order": range(5)})
    parts = (
        reading.SourceTable(table.slice(0, 3), "in/one", "line", first=2),
        reading.SourceTable(table.slice(3), "two"),
    )
    source = reading.SourceTable(table, "in", parts=parts)
    blocks = beam_log.write_blocks(source, str(tmp_path / "block"), 2, Data())
    loaded = [runner.load(block.path) for block in blocks]
    assert [block.rows for block in blocks] == [2, 1, 2]
    assert pa.concat_tables([block.table for block in loaded]).equals(table)
    assert [loaded[1].where(0), loaded[2].where(1)] == ["one line 4", "two row 2"]
