import itertools

import numpy as np
import pytest

from genrec.input_pipeline.packing import pack_shapes


def test_packing_places_every_segment_once_and_within_bounds():
    shapes = np.sort(np.random.default_rng(2).integers(1, 20, (200, 2)), axis=0)
    shapes = shapes[np.lexsort((shapes[:, 1], shapes[:, 0]))]
    packing = pack_shapes(shapes[:, 0], shapes[:, 1], row_targets=25)
    assert sorted(packing.place) == list(range(200))
    for start, stop in zip(packing.row_start[:-1], packing.row_start[1:], strict=True):
        total = shapes[packing.place[start:stop]].sum(axis=0)
        assert total[0] <= packing.row_tokens and total[1] <= packing.row_targets


def one_by_one(tokens, targets, row_targets):
    """The expected result of `pack_shapes`: the segments of each row, chosen one at a time."""
    row_targets = max(row_targets, targets.max())
    row_tokens = max(tokens.max(), -(-row_targets * tokens.sum() // targets.sum()))
    left, rows = list(range(len(tokens))), []
    while left:
        row, room = [], (row_tokens, row_targets)
        while fitting := [i for i in left if tokens[i] <= room[0] and targets[i] <= room[1]]:
            if row:
                unused = [
                    max((room[0] - tokens[i]) / row_tokens, (room[1] - targets[i]) / row_targets) for i in fitting
                ]
                choice = fitting[int(np.argmin(unused))]
            else:
                largest = (tokens[fitting[-1]], targets[fitting[-1]])
                choice = next(i for i in fitting if (tokens[i], targets[i]) == largest)
            row.append(choice)
            left.remove(choice)
            room = (room[0] - tokens[choice], room[1] - targets[choice])
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_packing_equals_packing_one_by_one(seed):
    random = np.random.default_rng(seed)
    shapes = random.integers(1, random.integers(2, 20), (random.integers(1, 200), 2))
    shapes = shapes[np.lexsort((shapes[:, 1], shapes[:, 0]))]
    row_targets = int(random.integers(1, 40))
    packing = pack_shapes(shapes[:, 0], shapes[:, 1], row_targets)
    rows = [packing.place[a:b].tolist() for a, b in itertools.pairwise(packing.row_start)]
    assert rows == one_by_one(shapes[:, 0], shapes[:, 1], row_targets)
