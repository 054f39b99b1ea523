import numpy as np
import pytest

from genrec.input_pipeline import item_histories


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 4), (17, 64), (64, 64), (65, 128), (300, 320)])
def test_batches_have_few_sizes(rows, size):
    assert item_histories.batch_size(rows) == size


def test_items_newer_than_the_model_are_left_out_and_rows_repeated():
    tokens = item_histories.tokenizer(5)
    given = [np.array([1, 7, 2]), np.array([9])]
    found = item_histories.batch(given, tokens, 3, True, 4).tokens
    expected = item_histories.batch([np.array([1, 2]), np.zeros(0, np.int32)], tokens, 3, True, 2).tokens
    np.testing.assert_array_equal(found, np.tile(expected, (2, 1)))
