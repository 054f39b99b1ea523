"""Metrics against figures worked out by hand, among them the mistakes that public code makes."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import pytrec_eval

from genrec.decoding.beam_search import beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.evaluation import metrics
from genrec.evaluation.evaluator import item_ranks
from genrec.semantic_ids.codes import separate_collisions


def test_figures_of_four_users():
    found = metrics.compute(np.array([1, 3, 0, 12], np.int32), cutoffs=(1, 3, 10, 20))
    expected = {
        "recall@1": 1 / 4,
        "ndcg@1": 1 / 4,
        "mrr@1": 1 / 4,
        "recall@3": 2 / 4,
        "ndcg@3": (1 + 1 / 2) / 4,
        "mrr@3": (1 + 1 / 3) / 4,
        "recall@10": 2 / 4,
        "ndcg@10": (1 + 1 / 2) / 4,
        "mrr@10": (1 + 1 / 3) / 4,
        "recall@20": 3 / 4,
        "ndcg@20": (1 + 1 / 2 + 1 / math.log2(13)) / 4,
        "mrr@20": (1 + 1 / 3 + 1 / 12) / 4,
    }
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(type(value) is float for value in found.values())


def test_a_rank_at_the_cutoff_counts_and_one_beyond_does_not():
    assert metrics.compute(np.array([5]), (5,))["recall@5"] == 1
    assert metrics.compute(np.array([6]), (5,)) == {"recall@5": 0, "ndcg@5": 0, "mrr@5": 0}


def test_a_missing_target_is_no_hit_at_any_cutoff():
    assert set(metrics.compute(np.zeros(7, int), (1, 5, 1000)).values()) == {0.0}


def test_the_order_of_users_and_a_ragged_last_batch_change_nothing():
    """Means of batches' means would weigh the users of a short last batch more: sums come first."""
    ranks = np.random.default_rng(0).integers(0, 30, 1003)
    whole = metrics.compute(ranks, (1, 10))
    assert metrics.compute(ranks[::-1], (1, 10)) == pytest.approx(whole, rel=1e-12)
    assert whole["recall@10"] == np.mean((ranks >= 1) & (ranks <= 10))


def test_metrics_of_random_lists_are_those_of_trec_eval():
    """One relevant item per user; reciprocal rank has no cutoff there, so that lists are cut before."""
    random, users, length, cutoffs = np.random.default_rng(0), 300, 30, (1, 5, 10, 30)
    recommended = np.array([random.permutation(60)[:length] for _ in range(users)])
    targets = random.integers(0, 60, users)
    relevant = {str(user): {str(item): 1} for user, item in enumerate(targets)}

    def trec_eval(measures: set[str], cut: int) -> dict[str, float]:
        lists = {
            str(user): {str(item): float(length - place) for place, item in enumerate(row[:cut])}
            for user, row in enumerate(recommended)
        }
        by_user = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(lists).values()
        return {name: np.mean([of_user[name] for of_user in by_user]) for name in next(iter(by_user))}

    expected = {}
    for cutoff in cutoffs:
        of = trec_eval({f"recall.{cutoff}", f"ndcg_cut.{cutoff}"}, length)
        expected |= {f"recall@{cutoff}": of[f"recall_{cutoff}"], f"ndcg@{cutoff}": of[f"ndcg_cut_{cutoff}"]}
        expected[f"mrr@{cutoff}"] = trec_eval({"recip_rank"}, cutoff)["recip_rank"]
    found = metrics.compute(item_ranks(recommended, targets), cutoffs)
    assert found == pytest.approx(expected, rel=1e-6) and 0 < found["recall@1"] < found["recall@30"] < 1


@pytest.mark.parametrize(
    ("ranks", "cutoffs", "message"),
    [([], (1,), "at least one user"), ([1, -1], (1,), "count from 1"), ([1], (0,), "at least 1")],
)
def test_impossible_arguments_are_refused(ranks, cutoffs, message):
    with pytest.raises(ValueError, match=message):
        metrics.compute(np.array(ranks), cutoffs)


def test_cutoffs_are_read_back_in_order():
    assert metrics.cutoffs_of(metrics.compute(np.array([1]), (20, 5, 10))) == (5, 10, 20)


def test_the_headline_is_at_10_or_the_nearest_cutoff_below_or_the_smallest():
    assert [metrics.shown_cutoff(of) for of in ((1, 10, 50), (1, 5, 20), (50, 20))] == [10, 5, 20]


def test_recall_stands_for_all_metrics_at_1():
    found = metrics.compute(np.array([1, 2, 0]), (1, 5))
    left_out = set(found) - set(metrics.distinct(found))
    assert left_out == {"ndcg@1", "mrr@1"} and {found[name] for name in left_out} == {found["recall@1"]}


def test_another_item_with_the_learned_codes_of_the_target_is_no_hit():
    """Items 0, 1 and 3 share their learned codes; the first place is item 0, so a target 1 is not a hit at 1."""
    ids = separate_collisions(np.array([[2, 1], [2, 1], [0, 3], [2, 1]]), sizes=(4, 4), max_group=4)
    assert (ids.codes[[0, 1, 3], :-1] == ids.codes[0, :-1]).all()

    def step(codes, level, cache):  # prefers the shared codes, and among the three items the later ones
        size = ids.sizes[level]
        preferred = {0: 2, 1: 1}.get(level, size - 1)
        beams = 1 if codes is None else codes.shape[1]
        logits = -5.0 * jnp.abs(jnp.arange(size) - preferred)
        return jnp.broadcast_to(logits, (1, beams, size)), cache

    beams = beam_search(step, CatalogueIndex.build(ids.codes, ids.sizes), batch=1, beams=4)
    recommended = np.asarray(beams.items)
    assert recommended.tolist() == [[3, 1, 0, 2]]
    ranks = item_ranks(np.repeat(recommended, 4, axis=0), np.array([3, 1, 0, 2]))
    assert ranks.tolist() == [1, 2, 3, 4]
    # Were equal learned codes a hit, three of the four users would have theirs at the first place.
    assert metrics.compute(ranks, (1, 2))["recall@1"] == 1 / 4
    assert metrics.compute(ranks, (1, 2))["recall@2"] == 2 / 4
