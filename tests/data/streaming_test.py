"""Preparation in bounded memory gives what preparation in memory gives, whatever the size of a block."""

import held_memory
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.config import Data
from genrec.data import encoded_log, reading, spilled_sequences, splits, streaming, validation
from genrec.data.errors import DataError
from genrec.data.prepare import in_memory

USERS, ITEMS = ["a", "b", "007", "7"], ["x", "y", "z", "unheard-of"]
TIMES = {
    "s": ["1", "2", "86400", "1700000000"],
    "iso": ["2024-01-31", "2024-01-31T10:00:00.5Z"],
    "ms": ["1700000000000", "1700000000001"],
    "odd": ["yesterday", "", "9000000000"],
}


@st.composite
def logs(draw):
    """Draws the rows of a log in one to three files, often with few users, ties, repeats and now and then problems."""
    kinds = draw(st.sampled_from([("s",), ("iso",), ("ms",), ("s", "iso"), ("s", "ms"), ("s", "odd")]))
    items = ITEMS if draw(st.integers(0, 9)) == 0 else ITEMS[:3]
    row = st.tuples(
        st.sampled_from(USERS),
        st.sampled_from(items),
        st.sampled_from([time for kind in kinds for time in TIMES[kind]]),
        st.sampled_from(["buy", "view", ""]),
        st.sampled_from(["1", "4.5", ""]),
    )
    return draw(st.lists(st.lists(row, min_size=1, max_size=25), min_size=1, max_size=3))


COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "rating")


def write(folder, parts, lacking=""):
    """Writes the log, whose second file has no column `lacking`, items and users; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, rows in enumerate(parts):
        kept = [place for place, name in enumerate(COLUMNS) if number != 1 or name != lacking]
        lines = [",".join(row[place] for place in kept) for row in (COLUMNS, *rows)]
        (folder / f"log-{number}.csv").write_text("\n".join(lines) + "\n")
    (folder / "items.csv").write_text("item_id,title\nx,X\ny,Y\nz,Z\n")
    (folder / "users.csv").write_text("user_id,age\n007,7\nnobody,1\n")
    return {
        "interactions": str(folder / "log-*.csv"),
        "items": str(folder / "items.csv"),
        "users": str(folder / "users.csv"),
    }


def sequences(contents):
    """Returns (user, items, times, length in each split) of all users, as lists."""
    found = []
    for user_ids, part in contents.parts:
        for user, start, stop in zip(user_ids, part.offsets, part.offsets[1:], strict=False):
            found.append((user, part.items[start:stop].tolist(), part.timestamps[start:stop].tolist()))
    ends = np.stack([contents.ends[name] for name in splits.NAMES], axis=1).tolist()
    return [(*user, lengths) for user, lengths in zip(found, ends, strict=True)]


def outcome(make):
    """Returns all that a dataset is written from, as plain values, or the message of the error."""
    try:
        contents = make()
    except DataError as error:
        return str(error)
    return sequences(contents), contents.catalogue.to_pylist(), contents.users.to_pylist(), contents.statistics


@given(
    parts=logs(),
    rows=st.sampled_from([1, 2, 7, 1000]),
    repeated=st.sampled_from(["refuse", "drop", "drop", "keep", "keep"]),
    event_types=st.sampled_from([(), ("buy",), ("buy", "view")]),
    min_rating=st.sampled_from([float("-inf"), 2.0]),
    k_core=st.sampled_from([0, 2, 3]),
    split=st.sampled_from(["leave_one_out", "temporal"]),
    lacking=st.sampled_from(["rating", "rating", "event_type", "timestamp", "user_id"]),
)
@settings(max_examples=30, deadline=None)
def test_streaming_equals_in_memory(tmp_path_factory, parts, rows, lacking, **chosen):
    base = tmp_path_factory.getbasetemp() / "streaming"
    config = Data(**write(base / "raw", parts, lacking), **chosen)
    expected = outcome(lambda: in_memory(config))
    limits = encoded_log.Limits(block_bytes=64 + 24 * rows, rows=rows, sort_bytes=64 << 20)
    folder = epath.Path(tmp_path_factory.mktemp("scratch"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded_log.Limits, "of", lambda memory: limits)
        assert outcome(lambda: streaming.contents(config, folder)) == expected


@pytest.mark.parametrize("rows", [1, 40, 1000])
@pytest.mark.parametrize("most_in_memory", [0, 10**6])
def test_a_core_of_many_rounds_equals_the_one_in_memory(tmp_path, rows, most_in_memory):
    # A chain: user n has items n and n + 1, so that each round removes one user at an end.
    users = np.repeat(np.arange(60), 2)
    items = users + np.tile([0, 1], 60)
    more = np.repeat(np.arange(60, 64), 4), np.tile(np.arange(70, 74), 4)
    users, items = np.concatenate([users, more[0]]), np.concatenate([items, more[1]])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))])
    whole = spilled_sequences.SpilledSequences(epath.Path(tmp_path / "whole"), rows)
    for first in range(0, 64, 8):
        own = offsets[first : first + 9]
        part = slice(own[0], own[-1])
        whole.append(splits.UserSequences(own - own[0], items[part], np.arange(own[0], own[-1])))
    core = spilled_sequences.k_core(whole, epath.Path(tmp_path / "core"), 80, 2, rows, most_in_memory)
    kept = [(u + first, i) for first, part in core.parts() for u, i in zip(part.users, part.items, strict=True)]
    expected = streaming.filtering.k_core(users, items, 2)
    assert kept == list(zip(users[expected], items[expected], strict=True)) and len(kept) == 16


def test_integers_and_decimals_in_different_files_are_one_column(tmp_path):
    paths = write(tmp_path, [[]])
    (tmp_path / "log-0.csv").unlink()
    log = {"user_id": ["a"] * 4, "item_id": ["x", "y", "z", "x"]}
    for number, times in enumerate(([1, 2, 3, 4], [5.5, 6.5, 7.5, 8.0])):
        pyarrow.parquet.write_table(pa.table(log | {"timestamp": times}), tmp_path / f"log-{number}.parquet")
    config = Data(**paths | {"interactions": str(tmp_path / "log-*.parquet"), "users": ""}, k_core=0)
    ((_, _, times, _),) = sequences(streaming.contents(config, epath.Path(tmp_path / "scratch")))
    assert times == [int(t * 1e6) for t in (1, 2, 3, 4, 5.5, 6.5, 7.5, 8)]


def test_texts_beyond_2_gib_have_one_dictionary():
    # 2.1 GiB of ids, of which each chunk is the same one in memory.
    chunk = pa.array([f"{n:0400d}" for n in range(5_000)])
    column = pa.chunked_array([chunk] * 1130)
    assert column.nbytes > 2**31
    ids = validation._encoded(column)
    assert len(ids) == 1130 * 5_000 and len(ids.dictionary) == 5_000
    assert ids[-1].as_py() == f"{4_999:0400d}"


def peak(tmp_path, monkeypatch, rows):
    """Returns the most bytes that are held while blocks of a log of so many rows are read and sequences are taken."""
    ids = [pa.array([f"{n:040d}" for n in range(50)]), pa.array([f"i{n}" for n in range(20)])]

    def blocks(config, limits):
        for first in range(0, rows, 4096):
            n = np.arange(first, min(first + 4096, rows))
            columns = {"user_id": ids[0].take(n % 50), "item_id": ids[1].take(n * 7 % 20)}
            yield reading.SourceTable(pa.table(columns | {"timestamp": 1_700_000_000 + n}), "log.csv", first=first + 1)
            most.note()

    def append(self, sequences, append=spilled_sequences.SpilledSequences.append):
        append(self, sequences)
        most.note()

    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},T\n" for n in range(20)))
    config = Data(interactions="log.csv", items=str(tmp_path / "items.csv"))
    limits = encoded_log.Limits(block_bytes=1 << 20, rows=4096, sort_bytes=64 << 20)
    monkeypatch.setattr(encoded_log, "_blocks", blocks)
    monkeypatch.setattr(spilled_sequences.SpilledSequences, "append", append)
    monkeypatch.setattr(encoded_log.Limits, "of", lambda memory: limits)
    with held_memory.traced() as most:
        contents = streaming.contents(config, epath.Path(tmp_path / f"scratch-{rows}"))
        assert contents.ends["test"].sum() == rows
        return most.bytes


def test_memory_does_not_grow_with_rows(tmp_path, monkeypatch):
    few, many = (peak(tmp_path, monkeypatch, rows) for rows in (30_000, 400_000))
    assert many < few + 1_500_000, (few, many)  # where 370,000 more rows are 15 MB of text, and 4 MB of numbers
