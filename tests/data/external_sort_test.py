"""Rows are sorted as in memory, also where they do not fit there."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.errors import DataError
from genrec.data.external_sort import sort


def batches(rows, size=50_000):
    random = np.random.default_rng(0)
    for first in range(0, rows, size):
        number = np.arange(first, min(first + size, rows))
        yield pa.record_batch({"user": random.integers(0, 1000, len(number)), "row": number, "other": number % 7 - 3})


def sorted_batches(tmp_path, unsorted, memory=64 << 20):
    first = next(unsorted)
    every = itertools.chain([first], unsorted)
    return sort(every, first.schema, ("user", "row"), folder=tmp_path / "spilled", memory=memory, rows=10_000)


@pytest.mark.parametrize("memory", [16 << 20, 256 << 20])
def test_rows_are_in_order_whatever_the_memory(tmp_path, memory):
    found = pa.Table.from_batches(sorted_batches(tmp_path, batches(1_000_000), memory))
    everything = pa.Table.from_batches(batches(1_000_000))
    order = np.lexsort((everything["row"].to_numpy(), everything["user"].to_numpy()))
    for name in everything.column_names:
        np.testing.assert_array_equal(found[name].to_numpy(), everything[name].to_numpy()[order])
    assert not list((tmp_path / "spilled").glob("*"))


def test_an_exception_while_rows_are_made_stays_what_it_is(tmp_path):
    def failing():
        yield from batches(100_000)
        raise KeyError("of the rows")

    with pytest.raises(KeyError, match="of the rows"):
        list(sorted_batches(tmp_path, failing()))


def test_too_little_memory_is_named(tmp_path):
    with pytest.raises(DataError, match="data.memory_gb"):
        list(sorted_batches(tmp_path, batches(300_000), memory=1 << 20))
