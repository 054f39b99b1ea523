"""The notice to leave, as one process gets it. Among several, and in training: interruption_test."""

import os
import signal

import pytest

from genrec import exit_codes
from genrec.training.preemption import Notice, Preempted


def test_sigterm_is_remembered_and_does_not_end_the_process():
    before = signal.getsignal(signal.SIGTERM)
    with Notice() as notice:
        assert not notice.given()
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.given() and notice.given()
    assert signal.getsignal(signal.SIGTERM) == before


def test_each_notice_starts_anew():
    with Notice() as first:
        os.kill(os.getpid(), signal.SIGTERM)
    with Notice() as second:
        assert not second.given()
    assert first.given()


def test_leaving_ends_a_script_with_the_code_that_schedulers_restart():
    with pytest.raises(SystemExit) as ended:
        raise Preempted
    assert ended.value.code == exit_codes.RESTART
