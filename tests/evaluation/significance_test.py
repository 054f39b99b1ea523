"""The paired bootstrap against drawing users one by one, by hand, and on files of different users."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.config import ConfigError
from genrec.data.errors import DataError
from genrec.evaluation import metrics, results, significance


def test_two_users_by_hand():
    """Each target is found by one model only; two draws are both of the first user in a quarter of the samples."""
    compared = significance.paired_bootstrap(np.array([1, 0]), np.array([0, 1]), [1, 5])
    assert list(compared) == list(metrics.compute([1], [1, 5]))
    one = compared["recall@1"]
    assert (one.first, one.second, one.difference, one.low, one.high) == (0.5, 0.5, 0.0, -1.0, 1.0)
    assert one.p == 1.0


def test_equal_ranks_have_no_difference():
    ranks = np.arange(50) % 12
    for one in significance.paired_bootstrap(ranks, ranks, [5]).values():
        assert (one.difference, one.low, one.high, one.p) == (0, 0, 0, 1)


def test_a_model_that_is_always_better_is_significantly_better():
    compared = significance.paired_bootstrap(np.full(100, 4), np.full(100, 2), [1, 3], samples=999)
    assert compared["recall@3"][:5] == (0, 1, 1, 1, 1) and compared["recall@3"].p == 2 / 1000
    np.testing.assert_allclose(compared["mrr@3"][:5], (0, 0.5, 0.5, 0.5, 0.5))
    assert compared["recall@1"][:5] == (0, 0, 0, 0, 0)


def test_intervals_equal_those_of_drawing_users_one_by_one():
    random, users, samples = np.random.default_rng(0), 300, 4000
    first = random.integers(0, 15, users)
    second = np.where(random.random(users) < 0.7, first, random.integers(0, 13, users))
    compared = significance.paired_bootstrap(first, second, [5, 10], samples)
    drawn = random.integers(0, users, (samples, users))
    for name, one in compared.items():
        cutoff = int(name.partition("@")[2])
        values = [np.array([metrics.compute([rank], [cutoff])[name] for rank in ranks]) for ranks in (first, second)]
        differences = (values[1] - values[0])[drawn].mean(axis=1)
        assert one.first == pytest.approx(metrics.compute(first, [cutoff])[name])
        assert one.second == pytest.approx(metrics.compute(second, [cutoff])[name])
        near = 0.15 * differences.std() + 1 / users  # recall comes in steps of one user
        assert one.low == pytest.approx(np.quantile(differences, 0.025), abs=near)
        assert one.high == pytest.approx(np.quantile(differences, 0.975), abs=near)
        p = 2 * min((differences <= 0).mean(), (differences >= 0).mean())
        assert one.p == pytest.approx(min(p, 1), abs=0.03)


def test_unpaired_ranks_are_an_error():
    with pytest.raises(ValueError, match="2 .* 3 "):
        significance.paired_bootstrap(np.ones(2, int), np.ones(3, int), [1])


def write(path, users, targets, ranks):
    pyarrow.parquet.write_table(
        pa.table({"user_id": users, "target": targets, "rank": pa.array(ranks, pa.int32())}), path
    )
    return path


def test_users_are_matched_by_their_ids(tmp_path):
    first = write(tmp_path / "first", ["u1", "u2", "u3"], ["a", "b", "c"], [1, 2, 0])
    second = write(tmp_path / "second", ["u3", "u1", "u2"], ["c", "a", "b"], [3, 1, 9])
    ranks = significance.ranks_of_same_users(first, second)
    assert [one.tolist() for one in ranks] == [[1, 2, 0], [1, 9, 3]]
    text = significance.table(significance.paired_bootstrap(*ranks, [5]), ("one", "other"), 3)
    assert "3 users; first: one; second: other" in text
    assert "recall@5 0.6667 0.6667" in " ".join(text.split())


@pytest.mark.parametrize(
    "users, targets, message",
    [
        (["u1", "u4"], ["a", "b"], "second .*2 .*'u2'"),
        (["u1"], ["a"], "second .*1 .*'u2'"),
        (["u1", "u2"], ["a", "c"], "1 .*targets .*'u2'"),
        (["u1", "u1", "u2"], ["a", "a", "b"], "second.*user"),
    ],
)
def test_files_of_different_users_or_targets_are_refused(tmp_path, users, targets, message):
    first = write(tmp_path / "first", ["u1", "u2"], ["a", "b"], [1, 2])
    second = write(tmp_path / "second", users, targets, [1] * len(users))
    with pytest.raises(DataError, match=message):
        significance.ranks_of_same_users(first, second)


def test_a_work_directory_names_the_file_in_it(tmp_path):
    assert significance.users_file(tmp_path, "validation") == tmp_path / "evaluation" / "validation_users.parquet"
    assert significance.users_file(tmp_path / "some.parquet", "test") == tmp_path / "some.parquet"


def test_the_folder_of_an_evaluation_names_the_file_in_it(tmp_path):
    file = write(tmp_path / "test_users.parquet", ["u"], ["a"], [1])
    assert significance.users_file(tmp_path, "test") == file


def test_cutoffs_beyond_the_lists_are_left_out_or_refused(tmp_path):
    file = write(tmp_path / "users", ["u1", "u2"], ["a", "b"], [3, 0])
    assert significance.list_length(file) == 3, "at least the greatest rank"
    rows = pyarrow.parquet.read_table(file).replace_schema_metadata({results.LENGTH: "20"})
    pyarrow.parquet.write_table(rows, file)
    assert significance.list_length(file) == 20
    assert significance.shown_cutoffs(None, 20) == [1, 5, 10, 20]
    assert significance.shown_cutoffs([20, 7], 20) == [20, 7]
    for given in ([21], [0], [-1], [2.5], [float("nan")], []):
        with pytest.raises(ConfigError, match="20"):
            significance.shown_cutoffs(given, 20)


def test_intervals_of_one_model_equal_those_of_its_differences_from_no_hits():
    ranks = np.arange(200) % 13
    alone = significance.bootstrap(ranks, [5, 10])
    for name, one in significance.paired_bootstrap(np.zeros(200, int), ranks, [5, 10]).items():
        assert alone[name] == pytest.approx((one.low, one.high), abs=0.01) and alone[name][0] < one.second


def test_verdicts_follow_the_intervals():
    model = np.array([1, 2, 0] * 100)
    others = {"bad": np.zeros(300, int), "good": np.ones(300, int), "same": np.roll(model, 1)}
    compared = significance.compare_with(others, model, [10])
    words = {name: significance.verdict(of["recall@10"]) for name, of in compared.items()}
    assert [word.split()[0] for word in words.values()] == ["better", "worse", "not"]
    assert [name in line for name, line in zip(others, significance.verdicts(compared), strict=True)] == [True] * 3
    sentence = significance.sentence({"recall@10": 2 / 3, "ndcg@10": 0.5}, compared, 10, "history items kept")
    assert all(f"{verdict} {name}" in sentence for name, verdict in words.items()) and "0.6667" in sentence


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        significance.ranks_of_same_users(tmp_path / "nowhere", tmp_path / "nowhere")


def test_several_runs_are_averaged_per_user():
    """With one seed that always hits and one that never does, every user has half a hit, so the interval is a point."""
    first = np.array([[0] * 10, [1] * 10])
    compared = significance.paired_bootstrap(first, np.array([1] * 10), (1,), samples=50)["recall@1"]
    assert (compared.first, compared.second, compared.low, compared.high) == (0.5, 1.0, 0.5, 0.5)
    twice = np.stack([np.arange(10) % 3] * 2)
    alone = significance.paired_bootstrap(twice[0], np.ones(10, int), (1, 5), samples=50)
    assert significance.paired_bootstrap(twice, np.ones(10, int), (1, 5), samples=50) == alone
