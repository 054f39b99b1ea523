"""Metrics of training in files and in the log."""

import json
import logging

import numpy as np
import pytest

from genrec.training import metric_logs

STEP = {
    "objective": np.float32(9.5),
    "loss": np.float32(8.25),
    "loss_per_level": np.array([3, 3, 2.25], np.float32),
    "text_loss": np.float32(4),
    "gradient_norm": np.float32(1.2345678),
}
SPEED = {
    "step_seconds": 0.123456,
    "targets_per_second": 1234567.89,
    "tokens_per_second": 1e7,
    "compilations": 1,
    "model_flops_utilization": 0.41234,
}


def test_the_objective_and_the_plain_loss_are_logged_by_name(tmp_path, caplog):
    logs = metric_logs.Logs(tmp_path, 0)
    with caplog.at_level(logging.INFO):
        logs.write(123456, "train", metric_logs.summarize([STEP, STEP], 1.2345e-4) | SPEED)
    logs.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (row["train/objective"], row["train/loss"], row["train/text_loss"]) == (9.5, 8.25, 4)
    assert row["train/loss_level_2"] == 2.25 and row["train/tokens_per_second"] == 1e7
    (line,) = caplog.messages
    assert "objective 9.5" in line and "loss 8.25" in line
    assert len("11-27 23:59:59 I " + line) <= 120


def test_an_objective_that_is_the_plain_loss_is_not_repeated_in_the_log(tmp_path, caplog):
    logs = metric_logs.Logs(tmp_path, 0)
    with caplog.at_level(logging.INFO):
        logs.write(1, "train", metric_logs.summarize([STEP | {"objective": np.float32(8.25)}], 1e-4))
    logs.close()
    assert "objective" not in caplog.text and "train/objective" in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("name", ["objective", "gradient_norm"])
def test_an_objective_that_is_not_finite_is_an_error(name):
    with pytest.raises(metric_logs.TrainingError, match="learning_rate"):
        metric_logs.summarize([STEP, STEP | {name: np.float32(np.nan)}], 1e-4)
