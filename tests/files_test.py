"""Files are written whole, and those that cannot be read are named."""

import errno
import json

import numpy as np
import pytest
from etils import epath

from genrec import files


@pytest.mark.parametrize("order", ["C", "F"])
def test_load_rows_reads_a_range_of_rows(tmp_path, order):
    array = np.asarray(np.arange(60, dtype=np.float16).reshape(10, 6), order=order)
    files.save_array(tmp_path / "array.npy", array)
    assert files.array_shape(tmp_path / "array.npy") == (10, 6)
    np.testing.assert_array_equal(files.load_rows(tmp_path / "array.npy", 3, 7), array[3:7])


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
