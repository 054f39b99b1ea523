"""The quality report against metrics computed by hand, and the health gate against collapsed codes."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from genrec import config
from genrec.semantic_ids import neighbors, quality, residual_kmeans
from genrec.semantic_ids.residual_kmeans import ResidualCodebooks

SQUARE = ResidualCodebooks([np.array([[-2, 0], [2, 0]], np.float32), np.array([[0, -1], [0, 1]], np.float32)])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(12, 8))
    return (centers[generator.integers(0, 12, 500)] + 0.3 * generator.normal(size=(500, 8))).astype(np.float32)


def test_metrics_equal_those_computed_by_hand():
    vectors = np.array([[-2, -1], [-2, 1], [2, -1], [2, -1], [2, -1], [2, 1]], np.float32)
    codes = SQUARE.encode(vectors)
    report = quality.measure(vectors, codes, SQUARE)
    assert report.items == 6 and report.sizes == [2, 2] and report.used == [2, 2] and report.usage == [1, 1]
    assert report.collision_rate == pytest.approx(3 / 6)
    assert report.largest_group == 3
    share = np.array([2, 4]) / 6
    assert report.perplexity == pytest.approx([np.exp(-(share * np.log(share)).sum())] * 2)
    variance = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    assert report.reconstruction_error == pytest.approx([6 / variance, 0], abs=1e-6)


def test_usage_counts_only_what_the_catalogue_could_use():
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # four different items
    books = ResidualCodebooks([np.concatenate([np.eye(4), np.full((12, 4), 9)]).astype(np.float32)])
    assert quality.measure(vectors, books.encode(vectors), books).usage == [1.0]


def test_neighbors_share_more_codes_than_random_pairs(vectors):
    quantizer = residual_kmeans.learn(vectors, config.SemanticIdLearning(codes=(12, 12, 12)))
    report = quality.measure(vectors, quantizer.encode(vectors), quantizer)
    for agreement in (report.neighbor_agreement, report.random_agreement):
        assert agreement == sorted(agreement, reverse=True)
    assert report.neighbor_agreement[0] > 0.8 > 0.2 > report.random_agreement[0]
    quality.check(report, config.SemanticIdLearning())


def test_blocks_change_no_metric(vectors, monkeypatch):
    quantizer = residual_kmeans.learn(vectors, config.SemanticIdLearning(codes=(12, 12, 12)))
    codes = quantizer.encode(vectors)
    whole = dataclasses.asdict(quality.measure(vectors, codes, quantizer))
    monkeypatch.setattr(quality, "BLOCK_ROWS", 7)
    for name, value in dataclasses.asdict(quality.measure(vectors, codes, quantizer)).items():
        assert value == pytest.approx(whole[name]), name


def test_the_report_needs_memory_for_a_block_of_vectors(monkeypatch):
    monkeypatch.setattr(quality, "BLOCK_ROWS", 500)
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 500)
    monkeypatch.setattr(quality, "PROBES", 100)
    monkeypatch.setattr(quality, "RANDOM_PAIRS", 1000)
    embeddings = np.random.default_rng(0).normal(size=(8000, 256)).astype(np.float32)
    books = ResidualCodebooks([embeddings[:4]])
    codes = np.zeros((8000, 1), np.int64)
    tracemalloc.start()
    try:
        quality.measure(embeddings, codes, books)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < embeddings.nbytes / 2


def test_group_sizes():
    codes = np.array([[1, 1], [0, 1], [1, 1], [2, 2], [1, 1], [0, 1]])
    assert sorted(quality.group_sizes(codes)) == [1, 2, 3]


def test_collapsed_codes_fail_with_advice_on_every_metric(vectors):
    books = ResidualCodebooks([np.full((64, 8), 1e3, np.float32)])
    books.codebooks[0][:2] = [[0] * 8, [1] * 8]
    report = quality.measure(vectors, books.encode(vectors), books)
    with pytest.raises(quality.QualityError) as stopped:
        quality.check(report, config.SemanticIdLearning(max_group=100))
    message = str(stopped.value)
    assert "level 1 uses 2 of 64 codes" in message and "min_usage is 50%" in message and "Set fewer codes" in message
    assert (
        "100.0% of items share" in message and "max_collision_rate is 60.0%" in message and "one more level" in message
    )
    assert (
        "have the same learned codes (semantic_ids.max_group is 100)" in message and "equal or empty texts" in message
    )


@pytest.mark.parametrize(
    ("figure", "named"),
    [
        ({"usage": [0.9, 0.4, 0.9]}, "min_usage"),
        ({"collision_rate": 0.7}, "max_collision_rate"),
        ({"largest_group": 300}, "max_group"),
        ({"reconstruction_error": [0.8, 0.95, 2.56]}, "max_reconstruction_error"),
        ({"reconstruction_error": [0.5, 0.4, float("nan")]}, "max_reconstruction_error"),
    ],
)
def test_each_limit_alone_stops(vectors, figure, named):
    quantizer = residual_kmeans.learn(vectors, config.SemanticIdLearning(codes=(12, 12, 12)))
    sound = quality.measure(vectors, quantizer.encode(vectors), quantizer)
    with pytest.raises(quality.QualityError, match=named) as stopped:
        quality.check(dataclasses.replace(sound, **figure), config.SemanticIdLearning())
    assert str(stopped.value).count("\n  - ") == 1


def test_table_and_picture_show_every_level(vectors):
    quantizer = residual_kmeans.learn(vectors, config.SemanticIdLearning(codes=(12, 6)))
    codes = quantizer.encode(vectors)
    report = quality.measure(vectors, codes, quantizer)
    lines = quality.table(report).splitlines()
    assert len(lines) == 5 and lines[2].split()[:2] == ["1", "12"] and lines[3].split()[:2] == ["2", "6"]
    assert quality.picture(report, codes).startswith(b"\x89PNG")


def test_errors_are_relative_to_the_mean_of_many_rows(monkeypatch):
    monkeypatch.setattr(quality, "PROBES", 2)
    vectors = np.full((400_000, 2), 0.05, np.float32)
    vectors[::2] += np.float32(0.001)
    books = ResidualCodebooks([np.array([[0.0505, 0.0505]], np.float32)])
    report = quality.measure(vectors, np.zeros((len(vectors), 1), np.int64), books)
    assert report.reconstruction_error == pytest.approx([1], rel=1e-3)
