"""The whole stage: files become a dataset, atomically, and only if something changed."""

import json
import pathlib

import pytest

from genrec.config import ConfigError, Data
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare
from genrec.data.timestamps import SECOND

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "tiny"


def write_files(folder, *, users=12, items=6, length=5):
    """Writes a log of users with ids such as 007 who choose `length` items each, one per hour; returns its config."""
    folder.mkdir(exist_ok=True)
    lines = ["user_id,item_id,timestamp"]
    for user in range(users):
        lines += [f"{user:03d},i{(user + t) % items},{1_700_000_000 + 3600 * t + user}" for t in range(length)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{i},Title {i}\n" for i in range(items + 1)))
    (folder / "users.jsonl").write_text(json.dumps({"user_id": "007", "country": "NG"}) + "\n")
    return Data(interactions=str(folder / "log.csv"), items=str(folder / "items.csv"), k_core=2)


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_ids_and_times_are_kept(tmp_path):
    config = write_files(tmp_path / "raw")
    config.users = str(tmp_path / "raw" / "users.jsonl")
    prepare(config, tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    sequence = data.split("test").read([7])[0]
    assert sequence.user_id == "007"
    assert [data.catalogue.item_ids[i] for i in sequence.items] == ["i1", "i2", "i3", "i4", "i5"]
    assert sequence.timestamps.tolist() == [(1_700_000_007 + 3600 * t) * SECOND for t in range(5)]
    assert data.users.to_pylist() == [{"user_id": "007", "country": "NG"}]
    assert data.split("train").read([7])[0].items.tolist() == sequence.items[:3].tolist()
    assert data.split("validation").read([7])[0].items.tolist() == sequence.items[:4].tolist()


def test_statistics_are_printed_and_kept(tmp_path, capsys):
    prepare(write_files(tmp_path / "raw"), tmp_path / "dataset")
    assert "12 train, 12 validation, 12 test" in capsys.readouterr().out
    statistics = Dataset(tmp_path / "dataset").statistics
    assert (statistics["users"], statistics["items"], statistics["interactions"]) == (12, 6, 60)
    assert statistics["first_interaction"].startswith("2023-11-14")
    assert Dataset(tmp_path / "dataset").catalogue.source_items == 7  # one of them has no interactions


def test_without_k_core_items_without_interactions_stay(tmp_path):
    config = write_files(tmp_path / "raw")
    config.k_core = 0
    prepare(config, tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    assert len(data.catalogue) == 7 and data.statistics["items_without_interactions"] == 1


def test_the_result_depends_on_the_inputs_alone(tmp_path):
    prepare(write_files(tmp_path / "raw"), tmp_path / "one")
    prepare(write_files(tmp_path / "moved"), tmp_path / "two")
    assert Dataset(tmp_path / "one").fingerprint == Dataset(tmp_path / "two").fingerprint
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        if name.parts[0] != "sequences" and name.name != "artifact.json":  # these tell paths and dates
            assert one[name] == two[name], name


def test_an_unchanged_dataset_is_kept_and_changes_are_detected(tmp_path):
    config = write_files(tmp_path / "raw")
    prepare(config, tmp_path / "dataset")
    before = (tmp_path / "dataset" / "artifact.json").stat().st_mtime_ns
    prepare(config, tmp_path / "dataset")
    assert (tmp_path / "dataset" / "artifact.json").stat().st_mtime_ns == before
    fingerprint = Dataset(tmp_path / "dataset").fingerprint
    write_files(tmp_path / "raw", length=4)
    prepare(config, tmp_path / "dataset")
    assert Dataset(tmp_path / "dataset").fingerprint != fingerprint
    config.split = "temporal"
    prepare(config, tmp_path / "dataset")
    assert Dataset(tmp_path / "dataset").statistics["records"]["train"] == 12


def test_a_failure_writes_nothing_and_keeps_the_old_dataset(tmp_path):
    config = write_files(tmp_path / "raw")
    prepare(config, tmp_path / "work" / "dataset")
    before = contents(tmp_path / "work")
    with pathlib.Path(config.interactions).open("a") as file:
        file.write("008,unheard-of,yesterday\n")
    with pytest.raises(DataError) as caught:
        prepare(config, tmp_path / "work" / "dataset")
    assert "log.csv, column item_id: unknown items (1 row): line 62: 'unheard-of'" in str(caught.value)
    assert "log.csv, column timestamp: unparsable timestamp (1 row): line 62: 'yesterday'" in str(caught.value)
    assert contents(tmp_path / "work") == before
    with pytest.raises(DataError):
        prepare(config, tmp_path / "empty" / "dataset")
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_core": 50}, "data.k_core=50"),
        ({"interactions": ""}, "data.interactions.*data.items"),
        ({"items": "absent.csv"}, "absent.csv"),
        ({"split": "random"}, "data.split.*random"),
        ({"source": "excel"}, "data.source.*excel"),
    ],
)
def test_invalid_settings_are_named(tmp_path, change, message):
    config = write_files(tmp_path / "raw")
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises((DataError, ConfigError), match=message):
        prepare(config, tmp_path / "dataset")


def test_a_split_without_users_is_refused(tmp_path):
    config = write_files(tmp_path / "raw", length=2)
    with pytest.raises(DataError, match="validation.*at least 3"):
        prepare(config, tmp_path / "dataset")


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_the_example_of_the_guide(tmp_path, split):
    paths = {name: str(EXAMPLE / f"{name}.csv") for name in ("interactions", "items", "users")}
    prepare(Data(**paths, k_core=2, split=split), tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    assert (len(data.catalogue), data.statistics["users"], data.users.num_rows) == (24, 14, 14)
    assert data.catalogue.titles[0] == "Harbour Lights"
    assert all(len(data.split(name)) for name in ("train", "validation", "test"))


def test_a_bucket_that_is_not_mounted_is_refused_before_any_work(tmp_path):
    with pytest.raises(DataError, match="gs://bucket/run/dataset.*--workdir"):
        prepare(write_files(tmp_path / "raw"), "gs://bucket/run/dataset")
