"""The index finds the sequences that a scan of the split finds, and only they are read."""

import concurrent.futures
import shutil
import threading

import numpy as np
import pytest

from genrec.config import Data, SyntheticCatalogue
from genrec.data import splits, user_index
from genrec.data.dataset import Dataset, Sequences
from genrec.data.prepare import prepare


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("user_index") / "dataset"
    prepare(Data(source="synthetic", k_core=2, synthetic=SyntheticCatalogue(items=100, users=50)), path)
    return path


@pytest.fixture
def unindexed(path, tmp_path):
    """The dataset as earlier versions prepared it."""
    shutil.copytree(path, tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset" / "user_index")
    return tmp_path / "dataset"


@pytest.fixture
def reads(monkeypatch):
    """The indices of all sequences that are read."""
    indices = []
    read = Sequences.read

    def recorded(self, chosen):
        indices.extend(int(index) for index in chosen)
        return read(self, chosen)

    monkeypatch.setattr(Sequences, "read", recorded)
    return indices


def scan(split):
    return {sequence.user_id: sequence for sequence in split.read(range(len(split)))}


def assert_found(split, user_ids):
    found, expected = split.of_users(user_ids), scan(split)
    assert found.keys() == set(user_ids) & expected.keys()
    for user_id, sequence in found.items():
        assert sequence.user_id == user_id
        np.testing.assert_array_equal(sequence.items, expected[user_id].items)
        np.testing.assert_array_equal(sequence.timestamps, expected[user_id].timestamps)


@pytest.mark.parametrize("name", splits.NAMES)
def test_users_are_found_as_by_a_scan(path, name):
    split = Dataset(path).split(name)
    users = list(scan(split))
    assert_found(split, users)
    assert_found(split, [users[7], users[3], users[7]])
    assert_found(split, [])


def test_unknown_users_are_left_out(path):
    split = Dataset(path).split("test")
    known = next(iter(scan(split)))
    assert_found(split, ["nobody", known, ""])
    assert split.of_users(["nobody"]) == {}


def test_only_the_wanted_sequences_are_read(path, reads):
    split = Dataset(path).split("test")
    wanted = [sequence.user_id for sequence in split.read([9, 4])]
    reads.clear()
    split.of_users([*wanted, "nobody"])
    assert sorted(reads) == [4, 9]


def test_users_with_equal_hashes_are_told_apart(unindexed, monkeypatch):
    monkeypatch.setattr(
        user_index, "hashes_of", lambda user_ids: np.array([int(user_id[1:]) % 3 for user_id in user_ids], np.uint64)
    )
    split = Dataset(unindexed).split("train")
    users = list(scan(split))
    assert_found(split, users[::5])
    assert split.of_users(["u999999"]) == {}


def test_a_dataset_without_an_index_gets_it_on_first_use(path, unindexed, reads):
    file = user_index.path_of(Dataset(unindexed).path, "test")
    wanted = Dataset(path).split("test").read([5])[0].user_id
    reads.clear()
    assert len(Dataset(unindexed).split("test").of_users([wanted])) == 1 and len(reads) > 1
    assert file.read_bytes() == user_index.path_of(Dataset(path).path, "test").read_bytes()
    assert [entry.name for entry in file.parent.iterdir()] == ["test.npy"]
    reads.clear()
    assert len(Dataset(unindexed).split("test").of_users([wanted])) == 1 and reads == [5]


def test_several_readers_build_it_at_the_same_time(path, unindexed):
    users = list(scan(Dataset(path).split("validation")))
    barrier = threading.Barrier(4)

    def find(_):
        split = Dataset(unindexed).split("validation")
        barrier.wait()
        return split.of_users(users).keys() == set(users)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert all(threads.map(find, range(4)))
    assert [entry.name for entry in (unindexed / "user_index").iterdir()] == ["validation.npy"]
    assert_found(Dataset(unindexed).split("validation"), users)


def test_where_the_index_cannot_be_written_it_is_kept_in_memory(unindexed, reads):
    (unindexed / "user_index").write_text("no folder: also root cannot write into it")
    split = Dataset(unindexed).split("test")
    users = list(scan(split))
    assert_found(split, users[:3])
    reads.clear()
    assert split.of_users([users[8]]).keys() == {users[8]} and reads == [8]
