"""The preemption signal in one process. Several processes, and training: interruption_test."""

import os
import signal

import pytest

from genrec import exit_codes
from genrec.training.preemption import Preempted, PreemptionSignal


def test_sigterm_requests_a_preemption_and_does_not_end_the_process():
    before = signal.getsignal(signal.SIGTERM)
    with PreemptionSignal() as preempted:
        assert not preempted.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted.requested() and preempted.requested()
    assert signal.getsignal(signal.SIGTERM) == before


def test_each_context_starts_without_a_request():
    with PreemptionSignal() as first:
        os.kill(os.getpid(), signal.SIGTERM)
    with PreemptionSignal() as second:
        assert not second.requested()
    assert first.requested()


def test_preempted_ends_a_script_with_the_exit_code_for_a_restart():
    with pytest.raises(SystemExit) as ended:
        raise Preempted
    assert ended.value.code == exit_codes.RESTART
