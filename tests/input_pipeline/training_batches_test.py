import collections

import jax
import numpy as np
import pytest

from genrec import config
from genrec.data.dataset import Sequence
from genrec.input_pipeline.examples import Tokenizer
from genrec.input_pipeline.training_batches import MEMORY, TrainingBatches, cut

LEVELS = 3


class InMemory:
    """Training sequences without a disk: sequence s holds the items 1000 s, 1000 s + 1, ..."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int32)
        self.sequences_read = []

    def read(self, indices):
        self.sequences_read += list(indices)
        return [
            Sequence(f"user{i}", (1000 * i + np.arange(self.lengths[i])).astype(np.int32), np.zeros(self.lengths[i]))
            for i in indices
        ]


def tokenizer(records):
    """Every item has its own token at every level, so that batches can be read back."""
    items = np.arange(1000 * records)
    return Tokenizer((items[:, None] * LEVELS + np.arange(LEVELS)).astype(np.int32), 10**7, 50)


def batches(lengths, seed=0, rows_multiple=1, memory=MEMORY, **training):
    settings = config.Training(**{"max_history": 5, "row_targets": 8, "batch_targets": 32} | training)
    return TrainingBatches(InMemory(lengths), tokenizer(len(lengths)), settings, seed, rows_multiple, memory)


def assert_equal(examples, expected, rows=slice(None)):
    for found, wanted in zip(jax.tree.leaves(examples), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, wanted[rows])


LENGTHS = np.random.default_rng(0).geometric(0.2, 300)


@pytest.mark.parametrize("every", [True, False])
def test_cut_makes_every_item_a_target_once(every):
    lengths = np.array([0, 1, 2, 5, 6, 7, 11, 12, 30])
    segments = cut(lengths, max_history=5, every=every)
    targets = collections.Counter()
    for record, start, stop, first in zip(
        segments.sequence, segments.start, segments.stop, segments.first_target, strict=True
    ):
        assert 0 <= start < stop <= lengths[record]
        assert stop - start - 1 <= 5
        # What a target may see begins at the user's first item, or is a full window, or (every) a later window.
        targets.update((record, item) for item in range(start + first, stop))
    assert targets == {(record, item): 1 for record, length in enumerate(lengths) for item in range(length)}


def test_with_targets_last_each_target_has_the_latest_items():
    segments = cut(np.array([9]), max_history=5, every=False)
    assert segments.start.tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3]
    assert (segments.stop - 1 - segments.start).tolist() == segments.first_target.tolist()


@pytest.mark.parametrize("targets", ["every", "last"])
def test_an_epoch_trains_every_target_at_most_once_and_nothing_else(targets):
    data = batches(LENGTHS, targets=targets, batch_targets=32)
    seen = collections.Counter()
    for step in range(data.steps_per_epoch):
        batch = data.batch(step)
        seen.update((batch.targets[batch.target_segments > 0][:, 0] // LEVELS).tolist())
    assert set(seen.values()) == {1}
    expected = {1000 * record + item for record, length in enumerate(LENGTHS) for item in range(length)}
    assert seen.keys() <= expected
    # Only the rows that do not fill a last batch wait for the next epoch.
    assert len(expected) - len(seen) <= data.rows * data.packing.row_targets


def test_a_batch_depends_on_seed_and_step_alone():
    first, again = batches(LENGTHS), batches(LENGTHS)
    last_step = 2 * first.steps_per_epoch + 1
    expected = [first.batch(step) for step in range(last_step + 1)]
    for step in (last_step, 0, 3):
        assert_equal(again.batch(step), expected[step])
    assert (batches(LENGTHS, seed=1).batch(0).targets != expected[0].targets).any()
    assert (expected[first.steps_per_epoch].targets != expected[0].targets).any()


@pytest.mark.parametrize("memory", [0, MEMORY])
def test_the_iterator_resumes_at_any_step(memory):
    data = batches(LENGTHS, memory=memory)
    for step, batch in zip(range(3, 7), data.iterate(3, 7), strict=True):
        assert_equal(batch, data.batch(step))
    for step, batch in zip(range(3, 7), data.iterate(3, 7, rows=slice(1, 2)), strict=True):
        assert_equal(batch, data.batch(step), slice(1, 2))


@pytest.mark.parametrize("memory", [0, MEMORY])
@pytest.mark.parametrize(
    "rows", [slice(1, 3), slice(None, None, 2), slice(2, 2), np.array([6, 0, 6, 4]), np.array([7])]
)
def test_rows_are_those_of_the_whole_batch(rows, memory):
    data = batches(LENGTHS, rows_multiple=4, memory=memory, batch_targets=64)
    assert (data.rows, data.padded_rows) == (5, 8)
    for step in (0, data.steps_per_epoch + 2):
        assert_equal(data.batch(step, rows), data.batch(step), rows)


def test_processes_read_the_sequences_of_their_rows_only():
    whole, part = (batches(LENGTHS, memory=0, batch_targets=64) for _ in range(2))
    whole.batch(3)
    segments = part.batch(3, slice(2)).histories.segments
    assert set(part.sequences.sequences_read) < set(whole.sequences.sequences_read)
    assert 0 < len(part.sequences.sequences_read) <= segments.max(axis=1).sum()


def test_in_memory_every_sequence_is_read_once():
    in_memory, on_disk = batches(LENGTHS), batches(LENGTHS, memory=4 * LENGTHS.sum() - 1)
    assert on_disk.sequences.sequences_read == []
    for step in range(3):
        assert_equal(in_memory.batch(step), on_disk.batch(step))
    assert in_memory.sequences.sequences_read == list(range(len(LENGTHS)))


def test_padding_rows_are_empty_and_change_nothing_else():
    plain, padded = (batches(LENGTHS, rows_multiple=multiple, batch_targets=64) for multiple in (1, 15))
    assert (plain.rows, plain.padded_rows) == (5, 5)
    assert (padded.rows, padded.padded_rows) == (5, 15)
    assert padded.steps_per_epoch == plain.steps_per_epoch
    assert padded.targets_per_step == plain.targets_per_step
    np.testing.assert_allclose(1 - padded.padding, (1 - plain.padding) / 3)
    for step in range(3):
        batch = padded.batch(step)
        assert_equal(plain.batch(step), batch, slice(5))
        assert not any(array[5:].any() for array in jax.tree.leaves(batch))


def test_padding_is_below_a_tenth():
    random = np.random.default_rng(1)
    for lengths in (random.geometric(0.15, 3000), random.integers(1, 60, 1000), np.full(500, 7)):
        assert batches(lengths, max_history=20, row_targets=32, batch_targets=1024).padding < 0.1


def test_no_items_is_an_error():
    with pytest.raises(ValueError, match="no items"):
        batches([0, 0])
