"""The notice to leave, as one process gets it. Among several, and in training: interruption_test."""

import os
import signal

import pytest

from genrec import exit_codes
from genrec.training.preemption import Preempted, PreemptionSignal


def test_sigterm_is_remembered_and_does_not_end_the_process():
    before = signal.getsignal(signal.SIGTERM)
    with PreemptionSignal() as preempted:
        assert not preempted.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted.requested() and preempted.requested()
    assert signal.getsignal(signal.SIGTERM) == before


def test_each_notice_starts_anew():
    with PreemptionSignal() as first:
        os.kill(os.getpid(), signal.SIGTERM)
    with PreemptionSignal() as second:
        assert not second.requested()
    assert first.requested()


def test_leaving_ends_a_script_with_the_code_that_schedulers_restart():
    with pytest.raises(SystemExit) as ended:
        raise Preempted
    assert ended.value.code == exit_codes.RESTART
