"""Coverage, Gini, novelty and diversity of a few lists, worked out by hand."""

import itertools

import numpy as np
import pytest

from genrec.evaluation import beyond_accuracy

LISTS = np.array([[0, 1, 3], [0, 2, 3], [0, -1, -1]])


def measure(lists, popularity, embeddings, k):
    """Returns the figures of lists that are added at once."""
    metrics = beyond_accuracy.BeyondAccuracy(popularity, embeddings, k)
    metrics.add(lists)
    return metrics.figures()


def test_metrics_of_the_first_places():
    popularity = np.array([5, 1, 0, 0])  # one added each: shares .6, .2, .1, .1
    figures = measure(LISTS, popularity, None, 2)
    assert figures["coverage@2"] == 3 / 4
    np.testing.assert_allclose(figures["novelty@2"], -(3 * np.log2(0.6) + np.log2(0.2) + np.log2(0.1)) / 5)
    np.testing.assert_allclose(figures["gini@2"], beyond_accuracy.gini([3, 1, 1, 0]))
    assert set(figures) == {"coverage@2", "gini@2", "novelty@2"}


@pytest.mark.parametrize(("counts", "expected"), [((2, 2, 2), 0), ((0, 0, 6), 2 / 3), ((0, 0), 0), ((1, 3), 1 / 4)])
def test_gini(counts, expected):
    assert beyond_accuracy.gini(np.array(counts)) == pytest.approx(expected)


def test_gini_is_half_the_relative_mean_difference():
    counts = np.random.default_rng(0).integers(0, 20, 30)
    differences = np.abs(counts[:, None] - counts[None]).mean()
    assert beyond_accuracy.gini(counts) == pytest.approx(differences / (2 * counts.mean()))


def test_diversity_is_the_mean_distance_of_pairs():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(9, 4))
    embeddings[8] = 0
    lists = np.array([random.permutation(9)[:5] for _ in range(7)])
    lists[2, 3:], lists[4, 1:] = -1, -1
    expected = []
    for one in lists:
        items = one[one >= 0]
        if len(items) < 2:
            continue
        unit = [embeddings[item] / max(np.linalg.norm(embeddings[item]), 1e-9) for item in items]
        # An item without content is told apart from everything: the cosine with it is 0.
        expected.append(np.mean([1 - a @ b for a, b in itertools.combinations(unit, 2)]))
    figures = measure(lists, np.ones(9), embeddings, 5)
    assert figures["intra_list_diversity@5"] == pytest.approx(np.mean(expected))


def test_the_table_has_a_line_per_metric():
    measured = {"model": {"gini@5": 0.25}, "other": {"gini@5": 0.5}}
    assert beyond_accuracy.table(measured).split() == "model other gini@5 0.2500 0.5000 lower is better".split()


def test_every_metric_has_a_better_direction():
    measured = measure(np.array([[0, 1]]), np.ones(2), np.eye(2), 2)
    better = {name.partition("@")[0]: beyond_accuracy.better(name) for name in measured}
    assert better == {"coverage": "higher", "gini": "lower", "novelty": "higher", "intra_list_diversity": "higher"}


@pytest.mark.parametrize("part", [1, 7, 1024, 5000])
def test_any_division_of_the_lists_gives_equal_figures(part):
    random = np.random.default_rng(0)
    lists = random.integers(-1, 50, (2500, 4))
    popularity, embeddings = random.integers(0, 9, 50), random.normal(size=(50, 8)).astype(np.float32)
    metrics = beyond_accuracy.BeyondAccuracy(popularity, embeddings, 3)
    for start in range(0, len(lists), part):
        metrics.add(lists[start : start + part])
    assert metrics.figures() == measure(lists, popularity, embeddings, 3)
