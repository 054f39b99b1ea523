"""Single expansions: children, scores, ties, too few children and build errors, with tables and windows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.decoding.index_arrays import WIDE_RANGE, Layout
from genrec.decoding.sorted_table import SortedTable

SIZES = (4, 5, 3)
CODES = np.array([[3, 4, 0], [0, 1, 2], [0, 1, 0], [2, 0, 1], [0, 4, 1], [3, 4, 2]], np.uint16)
# Boundary tables only; tables then windows; windows only.
BUDGETS = (1000, 20, 0)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@functools.partial(jax.jit, static_argnames="k")
def expand(index, state, logits, k):
    return index.expand(state, logits, k)


@pytest.fixture(params=BUDGETS)
def index(request) -> CatalogueIndex:
    return CatalogueIndex.build(CODES, SIZES, boundary_budget=request.param)


def test_budget_decides_between_tables_and_windows():
    assert [CatalogueIndex.build(CODES, SIZES, budget).tables for budget in BUDGETS] == [3, 2, 0]
    windows = CatalogueIndex.build(CODES, SIZES, 0).layout.windows
    assert all(window > longest for window, longest in zip(windows, (6, 3, 2), strict=False)) and windows[-1] == 1


@pytest.mark.parametrize(
    "change, holds",
    [
        ({}, True),
        ({"capacity": 12}, True),  # 6 rows, and a window of 6 that begins in the last one
        ({"capacity": 11}, False),
        ({"windows": (3, 2, 1)}, True),
        ({"windows": (2, 2, 1)}, False),
        ({"windows": (3, 1, 1)}, False),
        ({"windows": (2, 2, 1), "runs": (True, False)}, True),  # two children of the three rows
        ({"windows": (1, 2, 1), "runs": (True, False)}, False),
        ({"sizes": (4, 5, 4)}, False),
    ],
)
def test_a_layout_holds_tables_whose_ranges_fit_its_windows(change, holds):
    layout = dataclasses.replace(Layout(SIZES, 1, (3, 2, 6), (False, False), 20), **change)
    assert layout.holds(SortedTable.build(CODES, SIZES)) == holds


def test_levels_have_runs_where_ranges_are_much_longer_than_their_children():
    assert not any(CatalogueIndex.build(CODES, SIZES, 0).layout.runs)
    alike = np.concatenate([CODES, np.repeat(CODES[1:3], WIDE_RANGE, axis=0)])  # the codes 0 1 2 and 0 1 0
    layout = CatalogueIndex.build(alike, SIZES, 0).layout
    assert layout.runs == (True, True, True) and layout.windows[:-1] == (4, 4, 3)
    assert CatalogueIndex.build(alike, SIZES, 20).layout.runs == (True,)


def test_children_are_the_codes_that_exist_with_exact_scores(index):
    logits = np.random.default_rng(0).normal(size=(2, 1, 4)).astype(np.float32)
    found = expand(index, index.start(2), logits, 3)
    for row in range(2):
        expected = log_softmax(logits[row, 0].astype(np.float64))
        assert found.codes[row].tolist() == [0, 2, 3]  # no item has the code 1
        np.testing.assert_allclose(found.scores[row], expected[[0, 2, 3]], rtol=1e-5)
    assert (found.parents == 0).all()
    assert (found.state.end - found.state.first)[0].tolist() == [3, 1, 2]


def test_children_are_in_table_order_and_the_best_pruned_score_is_known(index):
    found = expand(index, index.start(1), jnp.array([[[1.0, 9.0, 3.0, 2.0]]]), 2)
    assert found.codes.tolist() == [[2, 3]]
    np.testing.assert_allclose(found.state.pruned[0], log_softmax(np.array([1.0, 9, 3, 2]))[0], rtol=1e-5)


def test_scores_count_codes_without_items(index):
    """An impossible code keeps its probability."""
    logits = jnp.array([[[0.0, 10.0, 0.0, 0.0]]])
    assert expand(index, index.start(1), logits, 1).scores[0, 0] < -9


def test_ties_go_to_the_first_in_the_table(index):
    first = expand(index, index.start(1), jnp.zeros((1, 1, 4)), 3)
    assert first.codes.tolist() == [[0, 2, 3]]
    found = expand(index, first.state, jnp.zeros((1, 3, 5)), 3)
    assert found.parents.tolist() == [[0, 0, 1]]
    assert found.codes.tolist() == [[1, 4, 0]]
    assert len(set(found.scores[0].tolist())) == 1 and found.state.pruned[0] == found.scores[0, 0]


def test_missing_children_are_dead_and_stay_dead(index):
    state = index.start(1)
    for size, live in zip(SIZES, (3, 4, 6), strict=True):
        logits = jnp.ones((1, state.beams, size))
        parents, codes, scores, state, _ = expand(index, state, logits, 50)
        assert scores.shape == (1, 50)
        assert (scores[0, :live] > -jnp.inf).all() and (scores[0, live:] == -jnp.inf).all()
        assert (parents[0, live:] == 0).all() and (codes[0, live:] == 0).all()
        assert (state.end == state.first)[0, live:].all()
    assert index.best_items(state)[0][0].tolist() == [2, 1, 4, 3, 0, 5] + [-1] * 44


def test_low_precision_logits_are_normalized_in_float32(index):
    logits = jax.random.normal(jax.random.key(0), (1, 1, 4))
    low = expand(index, index.start(1), logits.astype(jnp.bfloat16), 3).scores
    high = expand(index, index.start(1), logits.astype(jnp.bfloat16).astype(jnp.float32), 3).scores
    assert low.dtype == jnp.float32 and (low == high).all()


def test_wrong_logits_are_refused(index):
    with pytest.raises(ValueError, match="level 0 .*shape"):
        expand(index, index.start(1), jnp.zeros((1, 1, 5)), 3)


def test_rows_are_sorted_by_codes():
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 7, (500, 4)).astype(np.uint16), axis=0)
    shuffled = rng.permutation(codes)
    for budget in (0, 50, 1 << 20):
        items = np.asarray(CatalogueIndex.build(shuffled, (7, 7, 7, 7), budget).items)[: len(codes)]
        assert (shuffled[items] == codes).all()


@pytest.mark.parametrize(
    "codes, sizes, message",
    [
        (CODES, (4, 5), "2"),
        (CODES, (4, 4, 3), "level 1"),
        (CODES[:0], SIZES, "empty"),
        (CODES.astype(np.int64), SIZES, "uint16"),
    ],
)
def test_build_refuses_invalid_codes(codes, sizes, message):
    with pytest.raises(ValueError, match=message):
        CatalogueIndex.build(codes, sizes)
