import collections

import numpy as np
import pytest

from genrec import config
from genrec.data.dataset import Sequence
from genrec.data.examples import Tokens
from genrec.data.pipeline import TrainingBatches, cut, pack_shapes

LEVELS = 3


class InMemory:
    """Training sequences without a disk: record r holds the items 1000 r, 1000 r + 1, ..."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int32)

    def __len__(self):
        return len(self.lengths)

    def read(self, indices):
        return [
            Sequence(f"user{i}", (1000 * i + np.arange(self.lengths[i])).astype(np.int32), np.zeros(self.lengths[i]))
            for i in indices
        ]


def tokens(records):
    """Every item has its own token at every level, so that batches can be read back."""
    items = np.arange(1000 * records)
    return Tokens((items[:, None] * LEVELS + np.arange(LEVELS)).astype(np.int32), 10**7, 50)


def batches(lengths, seed=0, **training):
    settings = {"max_history": 5, "row_targets": 8, "batch_targets": 32} | training
    return TrainingBatches(InMemory(lengths), tokens(len(lengths)), config.Training(**settings), seed)


LENGTHS = np.random.default_rng(0).geometric(0.2, 300)


@pytest.mark.parametrize("every", [True, False])
def test_cut_makes_every_item_a_target_once(every):
    lengths = np.array([0, 1, 2, 5, 6, 7, 11, 12, 30])
    segments = cut(lengths, max_history=5, every=every)
    targets = collections.Counter()
    for record, start, stop, first in zip(
        segments.record, segments.start, segments.stop, segments.first_target, strict=True
    ):
        assert 0 <= start < stop <= lengths[record]
        assert stop - start - 1 <= 5
        # What a target may see begins at the user's first item, or is a full window, or (every) a later window.
        targets.update((record, item) for item in range(start + first, stop))
    assert targets == {(record, item): 1 for record, length in enumerate(lengths) for item in range(length)}


def test_targets_last_sees_all_the_latest_items():
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
        for a, b in zip(expected[step].histories, again.batch(step).histories, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (batches(LENGTHS, seed=1).batch(0).targets != expected[0].targets).any()
    assert (expected[first.steps_per_epoch].targets != expected[0].targets).any()


def test_the_iterator_goes_on_at_any_step():
    data = batches(LENGTHS)
    for step, batch in zip(range(3, 7), data.iterate(3, 7), strict=True):
        np.testing.assert_array_equal(batch.targets, data.batch(step).targets)


def test_padding_is_below_a_tenth():
    random = np.random.default_rng(1)
    for lengths in (random.geometric(0.15, 3000), random.integers(1, 60, 1000), np.full(500, 7)):
        assert batches(lengths, max_history=20, row_targets=32, batch_targets=1024).padding < 0.1


def test_packing_places_every_segment_once_and_within_bounds():
    shapes = np.sort(np.random.default_rng(2).integers(1, 20, (200, 2)), axis=0)
    shapes = shapes[np.lexsort((shapes[:, 1], shapes[:, 0]))]
    packing = pack_shapes(shapes[:, 0], shapes[:, 1], row_targets=25)
    assert sorted(packing.place) == list(range(200))
    for start, stop in zip(packing.row_start[:-1], packing.row_start[1:], strict=True):
        total = shapes[packing.place[start:stop]].sum(axis=0)
        assert total[0] <= packing.row_tokens and total[1] <= packing.row_targets


def test_no_items_is_an_error():
    with pytest.raises(ValueError, match="no items"):
        batches([0, 0])
