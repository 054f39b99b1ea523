"""Hashes of inputs depend on their content, and on the order of the files of a log, but not on their paths."""

import gzip
import pathlib

import pytest

from genrec import config, settings_check
from genrec.config import Data
from genrec.data.errors import DataError
from genrec.data.sources import read


def write(folder, parts):
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title\na,A\n")
    for name, content in parts.items():
        (folder / name).write_text(content)
    return Data(interactions=str(folder / "log*.csv"), items=str(folder / "items.csv"))


def test_hashes_depend_on_content_and_order_of_a_log(tmp_path):
    one = write(tmp_path / "one", {"log1.csv": "x", "log2.csv": "y"})
    same = write(tmp_path / "same", {"log-a.csv": "x", "log-b.csv": "y"})
    turned = write(tmp_path / "turned", {"log1.csv": "y", "log2.csv": "x"})
    assert read.hash_inputs(one) == read.hash_inputs(same) != read.hash_inputs(turned)
    seen = []
    read.hash_inputs(one, lambda files: seen.extend(file.name for file in files) or ["0", "1"])
    assert seen == ["log1.csv", "log2.csv"]


def test_a_pattern_that_matches_one_file_has_its_hash(tmp_path):
    config = write(tmp_path / "one", {"log1.csv": "x"})
    found = read.hash_inputs(config)
    config.interactions = str(tmp_path / "one" / "log1.csv")
    assert read.hash_inputs(config) == found


def test_missing_files_are_named(tmp_path):
    config = write(tmp_path / "one", {})
    with pytest.raises(DataError, match=r"log\*.csv.*data.interactions"):
        read.hash_inputs(config)
    config.interactions = "absent.csv"
    with pytest.raises(DataError, match="absent.csv"):
        read.hash_inputs(config)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"u1 \xe9\n"])
def test_damaged_files_of_a_folder_are_named(tmp_path, content):
    (tmp_path / "sequences.txt").write_bytes(content)
    (tmp_path / "items.csv").write_text("item_id,asin,title\n1,A,B\n")
    with pytest.raises(DataError, match=str(tmp_path)):
        read.read(Data(source="s3rec", folder=str(tmp_path)))


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        (gzip.compress(b"\n", mtime=0)[:-9], "cannot be read"),
        (b"no archive", "cannot be read"),
        (gzip.compress(b"\xff\n", mtime=0), "cannot be read"),
        (gzip.compress(b"[" * 100_000, mtime=0), "line 1: not a review"),
        (gzip.compress(b'{"' + b"x" * 1_000_000 + b'": 1}\n', mtime=0), "line 1: not a review"),
    ],
)
def test_damaged_archives_are_named(tmp_path, reviews, message):
    (tmp_path / "reviews_X_5.json.gz").write_bytes(reviews)
    (tmp_path / "meta_X.json.gz").write_bytes(gzip.compress(b"{'asin': 'B'}\n", mtime=0))
    with pytest.raises(DataError, match=message) as caught:
        read.read(Data(source="mcauley", folder=str(tmp_path)))
    assert len(str(caught.value)) < 600


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    (tmp_path / "items.csv").mkdir()
    data = Data(interactions=str(tmp_path / "log.csv"), items=str(tmp_path / "items.csv"))
    with pytest.raises(DataError, match="items.csv: is a folder"):
        read.hash_inputs(data)


def test_every_public_dataset_can_be_chosen_and_others_name_the_list():
    assert tuple(sorted(read.FOLDERS)) == config.FOLDER_SOURCES
    with pytest.raises(config.ConfigError, match="movielens.*yambda.*Did you mean movielens"):
        settings_check.check(Data(source="movielenz"), "data")
    for name in read.FOLDERS:
        with pytest.raises(DataError, match="data.folder"):
            read.hash_inputs(Data(source=name))
        with pytest.raises(DataError, match="no such folder"):
            read.hash_inputs(Data(source=name, folder="absent"))


def test_every_public_dataset_is_documented_and_has_its_test():
    here = pathlib.Path(__file__).parent
    guide = (here.parents[2] / "docs/data_sources.md").read_text()
    for name in read.FOLDERS:
        assert guide.count(f"\n| `{name}` |") == 2 and f"configs/public_data.py:{name} " in guide, name
        assert (here / f"{name}_test.py").exists(), name


def test_every_public_dataset_is_refused_in_an_empty_folder(tmp_path):
    for name in read.FOLDERS:
        with pytest.raises(DataError, match=str(tmp_path)):
            read.hash_inputs(Data(source=name, folder=str(tmp_path)))
