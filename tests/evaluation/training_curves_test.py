"""The training section of a report, of logs that are written by hand."""

import json

import pytest

from genrec.evaluation import training_curves


def write(workdir, rows, end=""):
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)


def read(workdir):
    return training_curves.read(workdir, 4, "ndcg@10", ["recall@10", "ndcg@10"])


def test_time_best_checkpoint_and_charts(tmp_path):
    """Steps 1 and 2 take 3 seconds each, step 3 half a second, step 4 one; the last line is still being written."""
    speed = [(2, 3.0), (3, 0.5), (4, 1.0)]
    train = [{"step": step, "train/step_seconds": each, "train/loss": 1, "train/text_loss": 2} for step, each in speed]
    validation = [{"step": step, "validation/ndcg@10": value} for step, value in ((2, 0.3), (3, 0.4), (4, 0.4))]
    write(tmp_path, train + validation, end='{"step": 5, "train/st')
    found = read(tmp_path)
    assert found.seconds == pytest.approx(2 * 3 + 0.5 + 1) and found.best == (3, 0.4)
    assert [title.split(";")[0] for _, title in found.charts] == ["Validation", "Training loss"]


@pytest.mark.parametrize(("objective", "lines"), [(5, 1), (6, 2)])
def test_the_objective_is_shown_where_it_is_not_the_loss(tmp_path, objective, lines):
    write(tmp_path, [{"step": 1, "train/loss": 5, "train/objective": objective}])
    ((figure, _),) = read(tmp_path).charts
    assert len(figure.axes[0].lines) == lines


def test_an_empty_log_and_none(tmp_path):
    assert read(tmp_path) is None
    write(tmp_path, [])
    assert read(tmp_path) == ([], None, None)
