"""The index finds the sequences that a scan of the split finds, and only they are read."""

import shutil

import numpy as np
import pytest

from genrec import files
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


def test_users_with_equal_hashes_are_told_apart(path, tmp_path, monkeypatch):
    monkeypatch.setattr(
        user_index, "hashes_of", lambda user_ids: np.array([int(user_id[1:]) % 3 for user_id in user_ids], np.uint64)
    )
    copy = shutil.copytree(path, tmp_path / "dataset")
    split = Dataset(copy).split("train")
    users = list(scan(split))
    files.save_array(user_index.path_of(Dataset(copy).path, "train"), user_index.of_hashes(user_index.hashes_of(users)))
    assert_found(split, users[::5])
    assert split.of_users(["u999999"]) == {}
