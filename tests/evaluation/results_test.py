"""The files of an evaluation, read back."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.evaluation import metrics, results
from genrec.evaluation.evaluator import Evaluation
from genrec.evaluation.spilled_lists import SpilledLists

CUTOFFS = (1, 5)
ITEM_IDS = ["a", "b", "c", "d"]


@pytest.fixture
def evaluation() -> Evaluation:
    """Three users; the last one's list has two items only."""
    ranks = np.array([1, 0, 2], np.int32)
    return Evaluation(
        metrics=metrics.compute(ranks, CUTOFFS),
        user_ids=["u1", "ü2", "u3"],
        targets=np.array([2, 3, 0], np.int32),
        ranks=ranks,
        recommended=np.array([[2, 0, 1], [0, 1, 2], [3, 0, -1]], np.int32),
        certified=np.array([2, 0, 3], np.int32),
    )


def test_figures_lists_and_table(tmp_path, evaluation):
    popular = np.array([3, 1, 4], np.int32)
    baselines = {"most popular": popular, "other": np.zeros(3, np.int32)}
    text = results.write(
        tmp_path / "evaluation", "test", evaluation, baselines, ITEM_IDS, {"step": 7}, "and more", exclude_history=True
    )

    figures = json.loads((tmp_path / "evaluation" / "test.json").read_text())
    assert figures["metrics"] == evaluation.metrics
    assert figures["baselines"]["most popular"] == metrics.compute(popular, CUTOFFS)
    assert set(figures["baselines"]["other"].values()) == {0}
    assert (figures["split"], figures["users"], figures["step"]) == ("test", 3, 7)
    assert figures["exclude_history"] is True and text.startswith("test split, 3 users; history items excluded\n")

    users = pyarrow.parquet.read_table(tmp_path / "evaluation" / "test_users.parquet").to_pylist()
    assert users == [
        {"user_id": "u1", "rank": 1, "target": "c", "recommended": ["c", "a", "b"], "certified": 2},
        {"user_id": "ü2", "rank": 0, "target": "d", "recommended": ["a", "b", "c"], "certified": 0},
        {"user_id": "u3", "rank": 2, "target": "a", "recommended": ["d", "a"], "certified": 2},
    ]

    assert (tmp_path / "evaluation" / "test.txt").read_text() == text + "\n"
    (line,) = (line.split() for line in text.splitlines() if line.startswith("recall@5"))
    assert line == ["recall@5", "0.6667", "1.0000", "0.7x", "0.0000", "-"]
    assert text.endswith("\nand more")
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == [
        "test.json",
        "test.txt",
        "test_users.parquet",
        "test_users_most_popular.parquet",
        "test_users_other.parquet",
    ]


def test_a_second_evaluation_replaces_the_first(tmp_path, evaluation):
    for popular in (np.array([3, 1, 4]), np.array([1, 1, 1])):
        results.write(tmp_path, "test", evaluation, {"most popular": popular}, ITEM_IDS, {}, exclude_history=False)
    assert json.loads((tmp_path / "test.json").read_text())["baselines"]["most popular"]["recall@1"] == 1


def test_the_table_has_a_line_for_each_metric_and_cutoff(evaluation):
    nothing = dict.fromkeys(evaluation.metrics, 0.0)
    lines = results.table(evaluation.metrics, {"nothing": nothing}, "title").splitlines()
    assert [line.split()[0] for line in lines[2:] if line] == [
        "recall@1", "recall@5", "ndcg@5", "mrr@5",
    ], "NDCG and MRR at 1 are recall at 1"  # fmt: skip
    assert lines[3].endswith("-"), "no ratio to a baseline without hits"


def test_lists_of_different_users_are_not_compared(tmp_path, evaluation):
    with pytest.raises(ValueError, match="most popular"):
        results.write(
            tmp_path, "test", evaluation, {"most popular": np.array([1, 2])}, ITEM_IDS, {}, exclude_history=False
        )
    assert not list(tmp_path.iterdir())


def test_lists_that_no_search_found_are_not_certified(tmp_path, evaluation):
    others = dataclasses.replace(evaluation, certified=None)
    results.write(tmp_path, "test", others, {}, ITEM_IDS, {}, exclude_history=False)
    columns = pyarrow.parquet.read_table(tmp_path / "test_users.parquet").column_names
    assert columns == ["user_id", "rank", "target", "recommended"]


@pytest.mark.parametrize("at_a_time", [1, 2, 100])
def test_any_number_of_users_at_a_time_gives_the_same_tables(tmp_path, evaluation, monkeypatch, at_a_time):
    ranks = {"most popular": np.array([3, 1, 4], np.int32)}
    results.write(tmp_path / "whole", "test", evaluation, ranks, ITEM_IDS, {}, exclude_history=False)
    lists = SpilledLists(*evaluation.recommended.shape)
    for some in ([2, 0], [1]):
        lists.write(np.array(some), evaluation.recommended[some])
    spilled = dataclasses.replace(
        evaluation, recommended=lists, user_ids=pa.array(evaluation.user_ids, pa.large_string())
    )
    monkeypatch.setattr(results, "USERS_AT_A_TIME", at_a_time)
    results.write(tmp_path / "parts", "test", spilled, ranks, ITEM_IDS, {}, exclude_history=False)
    for name in ("test_users.parquet", "test_users_most_popular.parquet"):
        whole, parts = (pyarrow.parquet.read_table(tmp_path / folder / name) for folder in ("whole", "parts"))
        assert parts.equals(whole, check_metadata=True)
