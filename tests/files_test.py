"""Reading of parts of arrays on disk."""

import numpy as np
import pytest

from genrec import files


@pytest.mark.parametrize("order", ["C", "F"])
def test_load_rows_reads_a_range_of_rows(tmp_path, order):
    array = np.asarray(np.arange(60, dtype=np.float16).reshape(10, 6), order=order)
    files.save_array(tmp_path / "array.npy", array)
    assert files.array_shape(tmp_path / "array.npy") == (10, 6)
    np.testing.assert_array_equal(files.load_rows(tmp_path / "array.npy", 3, 7), array[3:7])
