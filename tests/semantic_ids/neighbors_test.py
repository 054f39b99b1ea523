"""The nearest vectors in blocks are those that sorting all similarities finds."""

import numpy as np
import pytest

from genrec.semantic_ids import neighbors


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for name, rows in {"BLOCK_ROWS": 11, "QUERIES": 5, "MANY": 1}.items():
        monkeypatch.setattr(neighbors, name, rows)


@pytest.mark.parametrize("count", [0, 1, 7, 11, 40])
@pytest.mark.parametrize("equal", [False, True])
def test_they_equal_those_of_sorting_all_cosines(count, equal):
    random = np.random.default_rng(0)
    # With many equal ones, whose cosines have no rounding errors: then the first row is the nearest.
    axes = np.eye(4)[random.integers(0, 4, 41)] * random.integers(0, 3, (41, 1))
    vectors, own = (axes if equal else random.normal(size=(41, 4))).astype(np.float32), random.permutation(41)[:13]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = unit[own] @ unit.T
    for given in (None, own):
        if given is not None:
            cosines[np.arange(13), own] = -np.inf
        rows, found = neighbors.nearest(vectors[own], vectors, count, given)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(rows, order)
        np.testing.assert_allclose(found, np.take_along_axis(cosines, order, axis=1), atol=1e-6)
