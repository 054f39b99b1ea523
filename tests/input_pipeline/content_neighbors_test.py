import numpy as np
import pytest

from genrec.input_pipeline import content_neighbors
from genrec.input_pipeline.content_neighbors import nearest


def clustered(items: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(20, 16))
    return (centers[random.integers(20, size=items)] + random.normal(size=(items, 16)) / 2).astype(np.float32)


@pytest.mark.parametrize("items", (1, 2, 5, 300))
def test_neighbors_are_the_largest_cosines(items):
    vectors = clustered(items)
    found = nearest(vectors, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    wanted = -np.sort(-cosines, axis=1)[:, : min(4, items - 1)]
    np.testing.assert_allclose(-np.sort(-found.cosines, axis=1), wanted, rtol=1e-5, atol=1e-6)
    if items > 1:
        np.testing.assert_allclose(np.take_along_axis(cosines, found.items, axis=1), found.cosines, rtol=1e-5)


def test_clusters_find_nearly_all_neighbors_and_never_the_item_itself():
    vectors = clustered(2000)
    exact, found = nearest(vectors, 8), nearest(vectors, 8, exact_items=100)
    shared = [len(np.intersect1d(one, other)) for one, other in zip(exact.items, found.items, strict=True)]
    assert np.mean(shared) > 0.9 * 8
    assert (found.items != np.arange(2000)[:, None]).all()
    assert all(len(set(one)) == 8 for one in found.items.tolist())


def test_all_clusters_are_the_exact_search():
    vectors = clustered(500)
    exact, found = nearest(vectors, 8), nearest(vectors, 8, exact_items=100, probes=500)
    np.testing.assert_allclose(np.sort(found.cosines), np.sort(exact.cosines), rtol=1e-5)


def test_more_neighbors_than_the_nearest_clusters_have():
    found = nearest(clustered(200), 150, exact_items=10, probes=1)
    assert all(len(set(one)) == 150 for one in found.items.tolist())


def test_items_without_vectors_and_equal_ones_have_neighbors():
    found = nearest(np.zeros((300, 4), np.float32), 3, exact_items=100)
    assert np.isfinite(found.cosines).all()


@pytest.mark.parametrize("different", (3, 10_000))
@pytest.mark.parametrize("columns", (5, 40, 131))
def test_the_largest_values_are_found_also_among_equal_ones(columns, different):
    values = np.random.default_rng(columns).integers(different, size=(30, columns)).astype(np.float32)
    found = content_neighbors._largest(values, 3)
    assert all(len(set(one)) == 3 for one in found.tolist())
    np.testing.assert_array_equal(
        np.sort(np.take_along_axis(values, found, axis=1)), np.sort(values, axis=1)[:, columns - 3 :]
    )
