"""Files are written whole, and those that cannot be read are named."""

import errno
import json

import numpy as np
import pytest
from etils import epath

from genrec import files


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_and_mapped_arrays_are_those_of_the_file_also_in_a_bucket(tmp_path, monkeypatch, order):
    array = np.asarray(np.arange(60, dtype=np.float16).reshape(10, 6), order=order)
    files.save_array(tmp_path / "array.npy", array)
    assert files.array_shape(tmp_path / "array.npy") == (10, 6)
    rows = np.array([3, 7, 4])
    monkeypatch.setattr(files.epath, "Path", lambda path: type(tmp_path)(str(path).removeprefix("bucket:/")))
    for path in (tmp_path / "array.npy", f"bucket://{tmp_path}/array.npy"):
        np.testing.assert_array_equal(files.load_rows(path, rows), array[rows])
        np.testing.assert_array_equal(files.map_array(path), array)


def test_blocks_of_rows_are_written_as_the_whole_array(tmp_path):
    array = np.arange(60, dtype=np.float32).reshape(10, 6)
    files.save_array(tmp_path / "whole.npy", array)
    files.save_rows(tmp_path / "blocks.npy", np.split(array, [3, 4]), 10)
    assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_files_that_are_no_arrays_are_not_mapped(tmp_path):
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, one=np.ones(3))
    for name in ("archive.npy", "missing.npy", "."):
        with pytest.raises(files.DamagedError, match=str(tmp_path)):
            files.map_array(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    files.write_text(tmp_path / "file", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_names_of_temporary_files_differ(tmp_path):
    assert len({files.temporary_path(tmp_path / "file") for _ in range(10)}) == 10


def test_numbers_that_are_not_finite_are_null():
    value = {"a": [float("inf"), 1.5, (float("nan"),)], "b": np.float64("-inf"), "c": "NaN"}
    assert json.loads(files.to_json(value)) == {"a": [None, 1.5, [None]], "b": None, "c": "NaN"}


def test_only_wrong_content_is_damage(tmp_path):
    (tmp_path / "file").write_text("[1]")
    for path in ("file", "missing", "."):
        with pytest.raises(files.DamagedError, match=str(tmp_path)):
            files.read_json(tmp_path / path)
    with pytest.raises(OSError, match="stale"), files.reading(tmp_path / "file", "JSON"):
        raise OSError(errno.ESTALE, "stale handle")
