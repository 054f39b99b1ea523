"""The synthetic service: reproducible from its seed, true to its rules, and learnable."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from genrec.config import Data, SyntheticCatalogue
from genrec.data import splits, validation
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare
from genrec.data.sources import synthetic
from genrec.data.timestamps import SECOND

CONFIG = SyntheticCatalogue(items=400, users=600, seed=3)


@pytest.fixture(scope="module")
def world():
    return synthetic.generate(CONFIG)


@pytest.fixture(scope="module")
def log(world):
    return validation.check(world.tables, Data()).interactions


def test_the_same_seed_gives_the_same_world(world):
    again = synthetic.generate(CONFIG)
    other = synthetic.generate(SyntheticCatalogue(items=400, users=600, seed=4))
    for name in ("interactions", "items", "users"):
        assert getattr(world.tables, name).table.equals(getattr(again.tables, name).table)
        assert not getattr(world.tables, name).table.equals(getattr(other.tables, name).table)
    np.testing.assert_array_equal(world.truth.last_taste, again.truth.last_taste)


def test_sizes_are_those_of_the_config(world):
    assert len(world.tables.items) == 400 and len(world.tables.users) == 600
    assert world.truth.first_taste.shape == (600, len(world.truth.genres))
    np.testing.assert_allclose(world.truth.first_taste.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(world.truth.last_taste.sum(axis=1), 1, atol=1e-5)


def test_only_released_available_and_permitted_items_are_heard(world, log):
    items, users = world.tables.items.table, world.tables.users.table
    released = np.array([t.rstrip("Z") for t in items["release_time"].to_pylist()], "datetime64[s]").astype(np.int64)
    assert (log.timestamps >= released[log.items] * SECOND).all()
    user = {user_id: row for row, user_id in enumerate(users["user_id"].to_pylist())}
    rows = np.array([user[user_id] for user_id in log.user_ids])[log.users]
    country = np.array([world.truth.countries.index(c) for c in users["country"].to_pylist()])[rows]
    assert world.truth.eligible[log.items, country].all()
    minor = np.array(users["age_band"].to_pylist())[rows] == "13-17"
    assert minor.any() and not items["explicit"].to_numpy()[log.items[minor]].any()


def test_users_choose_by_taste_and_tastes_drift(world, log):
    user = {user_id: row for row, user_id in enumerate(world.tables.users.table["user_id"].to_pylist())}
    rows = np.array([user[user_id] for user_id in log.user_ids])[log.users]
    taste = (world.truth.first_taste + world.truth.last_taste) / 2
    genre = world.truth.item_genre[log.items]
    liked = taste[rows, genre].mean()
    assert liked > 2 * taste.mean(axis=0)[genre].mean()  # against what an average user would think of the same items
    drift = np.abs(world.truth.first_taste - world.truth.last_taste).sum(axis=1)
    assert 0.1 < (drift > 0.1).mean()


def test_series_are_heard_in_order(world, log):
    sequences = splits.by_user(log)
    same_user = np.ones(len(log), bool)
    same_user[sequences.offsets[1:-1]] = False
    follows = world.truth.next_item[sequences.items[:-1]] == sequences.items[1:]
    assert 0.15 < (follows & same_user[1:]).sum() / same_user[1:].sum() < 0.6


def test_popularity_is_skewed_and_histories_predict_more(tmp_path):
    prepare(Data(source="synthetic", synthetic=SyntheticCatalogue(items=1000, users=2000)), tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    train, test = data.split("train"), data.split("test")
    items = len(data.catalogue)
    popularity, moves = np.zeros(items), np.zeros((items, items))
    for sequence in train.read(range(len(train))):
        np.add.at(popularity, sequence.items, 1)
        np.add.at(moves, (sequence.items[:-1], sequence.items[1:]), 1)
    assert data.statistics["share_of_top_tenth_of_items"] > 0.25
    popular = np.argsort(-popularity)[:10]
    last_two = np.array([sequence.items[-2:] for sequence in test.read(range(len(test)))])
    by_popularity = np.isin(last_two[:, 1], popular).mean()
    usual = np.argsort(-moves, axis=1)[:, :10]
    by_last_item = (usual[last_two[:, 0]] == last_two[:, 1:]).any(axis=1).mean()
    assert by_popularity > 0.02
    assert by_last_item > 3 * by_popularity


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_written_files_give_the_dataset_of_the_source(tmp_path, ending):
    config = SyntheticCatalogue(items=200, users=150)
    tables, paths = synthetic.generate(config).tables, {}
    for name in ("interactions", "items", "users"):
        paths[name], table = str(tmp_path / f"{name}{ending}"), getattr(tables, name).table
        if ending == ".parquet":
            pyarrow.parquet.write_table(table, paths[name])
            continue
        if "vector" in table.column_names:  # CSV has no lists
            texts = [" ".join(f"{x:.5g}" for x in vector) for vector in table["vector"].to_pylist()]
            table = table.set_column(table.column_names.index("vector"), "vector", pa.array(texts))
        pyarrow.csv.write_csv(table, paths[name])
    prepare(Data(source="files", **paths), tmp_path / "files")
    prepare(Data(source="synthetic", synthetic=config), tmp_path / "direct")
    files, direct = Dataset(tmp_path / "files"), Dataset(tmp_path / "direct")
    assert files.statistics == direct.statistics
    assert files.catalogue.texts == direct.catalogue.texts
    for a, b in zip(files.split("test").read(range(20)), direct.split("test").read(range(20)), strict=True):
        assert a.user_id == b.user_id and a.items.tolist() == b.items.tolist()


def test_a_world_that_is_too_small_is_refused():
    with pytest.raises(DataError, match="data.synthetic.*100.*10"):
        synthetic.generate(SyntheticCatalogue(items=10, users=10))
