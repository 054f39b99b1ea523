"""Properties of k-means and of residual k-means."""

import dataclasses
import itertools

import numpy as np
import pytest

from genrec import config, sharding
from genrec.semantic_ids import cpu_clusters, residual_kmeans
from genrec.semantic_ids.codes import SemanticIdError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Ten loose clusters in 12 dimensions."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(10, 12))
    return (centers[generator.integers(0, 10, 400)] + 0.3 * generator.normal(size=(400, 12))).astype(np.float32)


def settings(*codes: int, seed: int = 0) -> config.SemanticIdLearning:
    return config.SemanticIdLearning(codes=codes, seed=seed)


def error(vectors: np.ndarray, restored: np.ndarray) -> float:
    return float(((vectors - restored) ** 2).mean())


def test_separate_clusters_are_found_exactly():
    generator = np.random.default_rng(1)
    centers = generator.permutation(np.eye(8, dtype=np.float32) * 10)
    points = np.repeat(centers, 30, axis=0) + 0.01 * generator.normal(size=(240, 8)).astype(np.float32)
    found = residual_kmeans.kmeans(points, 8, 0)
    distances = np.linalg.norm(centers[:, None] - found[None], axis=-1)
    assert sorted(distances.argmin(axis=1)) == list(range(8))
    assert distances.min(axis=1).max() < 0.05


def test_items_sharded_over_devices_give_the_same_codebooks(vectors, monkeypatch):
    monkeypatch.setattr(residual_kmeans, "_rows_at_once", lambda size: 160)  # several blocks, the last one not full
    one = residual_kmeans.learn(vectors, settings(8, 8))
    eight = residual_kmeans.learn(vectors, settings(8, 8), sharding.make_mesh(config.Mesh(2, 2, 2)))
    for alone, shared in zip(one.codebooks, eight.codebooks, strict=True):
        np.testing.assert_allclose(alone, shared, atol=1e-4)
    np.testing.assert_array_equal(one.encode(vectors), eight.encode(vectors))
    # More devices than items in the last block, and fewer items than devices.
    np.testing.assert_array_equal(one.encode(vectors[:3]), eight.encode(vectors[:3]))


def test_error_falls_with_every_level(vectors):
    quantizer = residual_kmeans.learn(vectors, settings(8, 8, 8, 8))
    codes = quantizer.encode(vectors)
    errors = [error(vectors, vectors.mean(axis=0))]
    errors += [error(vectors, quantizer.reconstruct(codes, levels)) for levels in range(1, 5)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))


def test_every_code_is_the_nearest_to_the_residual(vectors):
    quantizer = residual_kmeans.learn(vectors, settings(6, 5))
    codes, residual = quantizer.encode(vectors), vectors.astype(np.float64)
    assert codes.dtype == np.int32
    for level, book in enumerate(quantizer.codebooks):
        distances = np.linalg.norm(residual[:, None] - book[None], axis=-1)
        chosen = np.take_along_axis(distances, codes[:, level : level + 1], axis=1)[:, 0]
        np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-4)
        residual = residual - book[codes[:, level]]


def test_levels_may_differ_in_size_and_all_codes_are_used(vectors):
    quantizer = residual_kmeans.learn(vectors, settings(16, 7))
    assert [book.shape for book in quantizer.codebooks] == [(16, 12), (7, 12)]
    codes = quantizer.encode(vectors)
    assert len(np.unique(codes[:, 0])) == 16 and len(np.unique(codes[:, 1])) == 7


def test_the_seed_decides_everything(vectors):
    first, again, other = (residual_kmeans.learn(vectors, settings(16, 16, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.encode(vectors), again.encode(vectors))
    assert not np.array_equal(first.codebooks[0], other.codebooks[0])


def test_blocks_change_no_code_and_no_center(vectors, monkeypatch):
    whole = residual_kmeans.learn(vectors, settings(300, 4))
    codes = whole.encode(vectors)
    monkeypatch.setattr(residual_kmeans, "DISTANCES_AT_ONCE", 300 * 256)  # two blocks, the second ragged
    np.testing.assert_array_equal(whole.encode(vectors), codes)
    blocked = residual_kmeans.learn(vectors, settings(300, 4))
    for book, blocked_book in zip(whole.codebooks, blocked.codebooks, strict=True):
        np.testing.assert_allclose(book, blocked_book, atol=1e-4)


def test_centers_come_from_a_sample_when_there_are_many_items(vectors, monkeypatch):
    monkeypatch.setattr(residual_kmeans, "ROWS_PER_CODE", 20)
    quantizer = residual_kmeans.learn(vectors, settings(10))
    assert quantizer.encode(vectors).shape == (400, 1)
    assert error(vectors, quantizer.reconstruct(quantizer.encode(vectors))) < 0.5 * vectors.var(axis=0).mean()


def test_a_center_without_points_moves_to_the_point_of_largest_error():
    points = np.array([[0.0, 0], [0, 0.1], [0.1, 0], [9, 9]], np.float32)
    centers = np.array([[0, 0], [-50, -50]], np.float32)
    found = residual_kmeans.Assignment(*cpu_clusters.two_nearest(points, centers))
    np.testing.assert_allclose(found.distances.sum(), 162.02, rtol=1e-4)
    moved = residual_kmeans.means(points, found, 2)
    np.testing.assert_allclose(moved, [points.mean(axis=0), [9, 9]], rtol=1e-5)


def test_devices_and_the_cpu_find_the_same_centers_and_distances(vectors):
    centers = vectors[:20]
    found = cpu_clusters.two_nearest(vectors, centers)
    every = ((vectors[:, None] - centers[None]) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(found[0], every.argmin(axis=1))
    np.testing.assert_allclose(np.stack(found[1:]), np.sort(every, axis=1)[:, :2].T, atol=1e-4)
    sharded = residual_kmeans.assignment(vectors, 20, sharding.make_mesh(config.Mesh(2, 2, 2)))(centers)
    for of_devices, expected in zip(sharded, found, strict=True):
        np.testing.assert_allclose(of_devices, expected, atol=1e-4)


def test_centers_that_are_hardly_needed_move_to_clusters_of_large_error():
    generator = np.random.default_rng(2)
    points = np.concatenate([generator.normal(size=(60, 4)), generator.normal(size=(60, 4)) + 40])
    points = np.concatenate([points, 0.01 * generator.normal(size=(30, 4)) - 60]).astype(np.float32)
    # One center for two far clusters, and three for one small cluster.
    centers = np.array([[20, 20, 20, 20], *points[-3:]], np.float32)
    found = residual_kmeans.Assignment(*cpu_clusters.two_nearest(points, centers))
    moved = cpu_clusters.two_nearest(points, residual_kmeans.split_largest(points, centers, found, generator))[1]
    assert moved.sum() < 0.9 * found.distances.sum()
    assert (moved[-30:] < 1).all()


def test_the_error_is_near_the_same_whatever_the_seed_and_below_that_of_random_centers(vectors):
    generator = np.random.default_rng(0)
    # Tight groups of few points beside a wide one of many, in which centers at points drawn at random are missing.
    points = np.concatenate([vectors, np.repeat(5 * generator.normal(size=(40, 12)), 3, axis=0)]).astype(np.float32)
    assign = residual_kmeans.assignment(points, 60, sharding.one_device())
    errors = [assign(residual_kmeans.kmeans(points, 60, seed)).distances.mean() for seed in range(3)]
    random = points[generator.choice(len(points), 60, replace=False)]
    for _ in range(50):
        random = residual_kmeans.means(points, assign(random), 60)
    assert max(errors) < 1.1 * min(errors)
    assert max(errors) < assign(random).distances.mean()


def test_encoding_by_as_many_beams_as_sequences_finds_the_codes_of_least_error(vectors):
    books = residual_kmeans.learn(vectors, settings(4, 3, 4)).codebooks
    every = np.array(list(itertools.product(range(4), range(3), range(4))))
    restored = residual_kmeans.ResidualCodebooks(books).reconstruct(every)
    best = every[((vectors[:, None] - restored[None]) ** 2).sum(axis=2).argmin(axis=1)]
    for mesh in (sharding.one_device(), sharding.make_mesh(config.Mesh(2, 2, 2))):
        np.testing.assert_array_equal(residual_kmeans.ResidualCodebooks(books, mesh, beams=48).encode(vectors), best)


def test_more_beams_lower_the_error_of_the_same_codebooks_and_devices_agree(vectors):
    learned = residual_kmeans.learn(vectors, settings(8, 8, 8))
    errors = []
    for beams in (1, 2, 4):
        books = dataclasses.replace(learned, beams=beams)
        codes = books.encode(vectors)
        sharded = dataclasses.replace(books, mesh=sharding.make_mesh(config.Mesh(2, 2, 2)))
        np.testing.assert_array_equal(sharded.encode(vectors), codes)
        errors.append(error(vectors, books.reconstruct(codes)))
    assert errors[0] > errors[1] > errors[2]


def test_more_codes_than_items_are_refused_with_advice(vectors):
    with pytest.raises(SemanticIdError, match=r"512 codes.*400 items.*\(16, 16\)"):
        residual_kmeans.learn(vectors, settings(512, 512))
    with pytest.raises(SemanticIdError, match="semantic_ids.codes"):
        residual_kmeans.learn(vectors, settings())
