"""Apache Beam gives the dataset that one process gives, and the same errors."""

import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from apache_beam.transforms import userstate

from genrec.config import Data, SyntheticCatalogue
from genrec.data import filtering, reading, splits, user_index
from genrec.data.beam import prepare as beam_prepare
from genrec.data.beam import users as beam_users
from genrec.data.beam.runner import BeamRunner
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare

ITEMS = 30


@pytest.fixture(scope="module")
def runner():
    """The DirectRunner, which looks once at the signatures of a DoFn, not thirty times: a third of its time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(userstate, "get_dofn_specs", functools.cache(userstate.get_dofn_specs))
        yield BeamRunner("DirectRunner")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Shrinks all limits: little data has several blocks, partitions, and rounds of the search for cut times."""
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(reading, "BLOCK_ROWS", 150)
    monkeypatch.setattr(beam_prepare, "PARTITION_ROWS", 200)
    monkeypatch.setattr(beam_users, "BINS", 64)


def log(seed=0, users=60, n=900):
    """Returns rows with many ties in time, users with one interaction, users who are filtered out, and rare items."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < n:
        user = min(int(rng.geometric(0.05)), users)
        item, hour = int(rng.integers(0, ITEMS)), int(rng.integers(0, 40))
        rows[user, item, hour] = {
            "user_id": f"{user:03d}",
            "item_id": f"i{item}",
            "timestamp": str(1_700_000_000 + 3600 * hour),
            "event_type": ("play", "like", "skip")[rng.integers(0, 3)],
            "rating": str(rng.integers(1, 6)),
        }
    lonely = [{**rows[next(iter(rows))], "user_id": f"once-{i}", "item_id": "rare"} for i in range(3)]
    return [*rows.values(), *lonely]


def write(folder, rows, ending=".csv", files=1):
    """Writes the rows to `files` files, and items and users; returns the config that reads them."""
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(rows)), files)):
        path, some = folder / f"log-{number}{ending}", [rows[row] for row in part]
        if ending == ".csv":
            path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in some)]) + "\n")
        elif ending == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n\n" for row in some))
        else:
            pyarrow.parquet.write_table(pa.Table.from_pylist(some), path)
    items = [*(f"i{item}" for item in range(ITEMS)), "rare", "unseen"]
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{item},Title of {item}\n" for item in items))
    (folder / "users.csv").write_text("user_id,country\n001,NG\n")
    pattern = f"log-0{ending}" if files == 1 else f"log-*{ending}"
    return Data(
        interactions=str(folder / pattern),
        items=str(folder / "items.csv"),
        users=str(folder / "users.csv"),
        k_core=3,
        validation_fraction=0.2,
        test_fraction=0.2,
    )


def assert_same(one, two):
    one, two = Dataset(one), Dataset(two)
    assert one.fingerprint == two.fingerprint
    assert one.statistics == two.statistics
    assert one.catalogue.table.equals(two.catalogue.table)
    assert (one.users is None and two.users is None) or one.users.equals(two.users)
    for name in splits.NAMES:
        mine, theirs = one.split(name), two.split(name)
        np.testing.assert_array_equal(mine.lengths, theirs.lengths)
        index, other = (user_index.path_of(dataset.path, name).read_bytes() for dataset in (one, two))
        assert index == other
        everything = np.arange(len(mine))
        for sequence, same in zip(mine.read(everything), theirs.read(everything), strict=True):
            assert sequence.user_id == same.user_id
            np.testing.assert_array_equal(sequence.items, same.items)
            np.testing.assert_array_equal(sequence.timestamps, same.timestamps)
        blocks = zip(mine.blocks(), theirs.blocks(), strict=True)
        assert all(block.user_ids.equals(same.user_ids) and (block.items == same.items).all() for block, same in blocks)


@pytest.mark.parametrize(
    ("ending", "files", "changes"),
    [
        (".csv", 1, {"k_core": 4}),
        (".jsonl", 3, {"split": "temporal", "event_types": ("play", "like"), "min_rating": 2.0}),
        (".parquet", 2, {"split": "temporal", "k_core": 0}),
        (".csv", 2, {"split": "temporal", "repeated": "drop", "columns": ("user_id=visitor",)}),
        (".jsonl", 2, {"repeated": "keep"}),
    ],
)
def test_the_dataset_is_the_same(tmp_path, runner, monkeypatch, ending, files, changes):
    if changes.get("k_core") == 4:  # found in one process after the first round
        monkeypatch.setattr(filtering, "ROUNDS", 1)
    rows = log()
    if "repeated" in changes:  # in milliseconds, of which many are within a second, and with rows that occur twice
        rows = [{**row, "timestamp": str(1000 * int(row["timestamp"]) + n % 7)} for n, row in enumerate(rows)]
        rows += rows[100:200:7] + rows[:3]
    if "columns" in changes:
        rows = [{"visitor" if name == "user_id" else name: cell for name, cell in row.items()} for row in rows]
    config = write(tmp_path / "raw", rows, ending, files)
    for name, value in changes.items():
        setattr(config, name, value)
    prepare(config, tmp_path / "local" / "dataset")
    prepare(config, tmp_path / "beam" / "dataset", runner)
    assert_same(tmp_path / "local" / "dataset", tmp_path / "beam" / "dataset")
    if "repeated" in changes:
        statistics = Dataset(tmp_path / "beam" / "dataset").statistics
        assert statistics["repeated_rows"] == 18 and statistics["recognized"] == ["times in milliseconds"]
    for folder in ("local", "beam"):
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["dataset"]
    names = [{path.name for path in (tmp_path / folder / "dataset").iterdir()} for folder in ("local", "beam")]
    assert names[0] == names[1]
    # Each finds the dataset of the other up to date.
    for folder, other in (("beam", None), ("local", runner)):
        before = (tmp_path / folder / "dataset" / "artifact.json").stat().st_mtime_ns
        prepare(config, tmp_path / folder / "dataset", other)
        assert (tmp_path / folder / "dataset" / "artifact.json").stat().st_mtime_ns == before


def test_other_sources_give_the_same_dataset(tmp_path, runner):
    config = Data(source="synthetic", synthetic=SyntheticCatalogue(items=150, users=60))
    prepare(config, tmp_path / "local")
    prepare(config, tmp_path / "beam", runner)
    assert_same(tmp_path / "local", tmp_path / "beam")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam", "local"]


def spoil(rows):
    """Adds problems of every kind, far from each other, and more unknown items than are shown."""
    rows[3]["timestamp"], rows[700]["timestamp"], rows[500]["timestamp"] = "yesterday", "", "2300-01-01"
    rows[10]["user_id"], rows[400]["rating"] = " ", "good"
    for row in (5, 300, 301, 600, 800):
        rows[row]["item_id"] = f"unheard-of-{row}"


def repeat(rows):
    for row in (2, 200, 450, 451, 820):
        rows.append(dict(rows[row]))


def one_day(rows):
    for row in rows:
        row["timestamp"] = "2024-01-31"


def strangers(rows):
    for row in rows:
        row["user_id"] = f"u{row['user_id']}"


def day_numbers(rows):
    for row in rows:
        row["timestamp"] = str(20240101 + int(row["timestamp"]) // 3600 % 28)


def several_units(rows):
    for row in rows[::300]:
        row["timestamp"] += "123"


def without(column):
    def change(rows):
        for row in rows:
            del row[column]

    return change


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (spoil, {}),
        (repeat, {}),
        (without("timestamp"), {}),
        (without("event_type"), {"event_types": ("play",)}),
        (lambda rows: None, {"event_types": ("buy",)}),
        (lambda rows: None, {"k_core": 500}),
        (lambda rows: rows.clear(), {}),
        (one_day, {"split": "temporal"}),
        (strangers, {}),
        (day_numbers, {}),
        (several_units, {}),
    ],
)
def test_the_same_data_is_refused_with_the_same_message(tmp_path, runner, change, settings):
    rows = log()
    header = dict(rows[0])
    change(rows)
    config = write(tmp_path / "raw", rows or [header], files=2)
    if not rows:
        for file in (tmp_path / "raw").glob("log-*"):
            file.write_text("user_id,item_id,timestamp\n")
    for name, value in settings.items():
        setattr(config, name, value)
    messages = []
    for other in (None, runner):
        with pytest.raises(DataError) as caught:
            prepare(config, tmp_path / "work" / "dataset", other)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not (tmp_path / "work").exists()


def test_a_malformed_file_is_named(tmp_path, runner):
    config = write(tmp_path / "raw", log(), files=2)
    with (tmp_path / "raw" / "log-1.csv").open("a") as file:
        file.write("one,two\n")
    for other in (None, runner):
        with pytest.raises(DataError, match=r"log-1.csv.* 1 rows.*line 453 has 2"):
            prepare(config, tmp_path / "dataset", other)
