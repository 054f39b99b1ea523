"""Progress in a log: the same steps, and a line every now and then."""

import logging

import pytest

from genrec import progress as progress_module
from genrec.progress import progress


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)


def test_all_steps_come_through_in_order():
    assert list(progress(range(5), "count")) == [0, 1, 2, 3, 4]
    assert list(progress(iter("ab"), "letters")) == ["a", "b"]


def test_quick_work_logs_nothing(caplog):
    with caplog.at_level(logging.INFO):
        list(progress(range(1000), "count"))
    assert "count" not in caplog.text


def test_long_work_logs_its_progress(caplog, monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0)
    with caplog.at_level(logging.INFO):
        list(progress(iter(range(3)), "count", total=3))
        list(progress(iter(range(1)), "endless"))
    assert "count: 2 of 3" in caplog.text and "endless: 1 of ?" in caplog.text
