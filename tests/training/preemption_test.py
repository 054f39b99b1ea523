"""The preemption signal in one process. Several processes, and training: interruption_test."""

import os
import signal

import pytest

from genrec import exit_codes
from genrec.training.preemption import Preempted, PreemptionSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_requests_a_preemption_and_does_not_end_the_process(number):
    before = signal.getsignal(number)
    with PreemptionSignal() as preempted:
        assert not preempted.requested()
        os.kill(os.getpid(), number)
        assert preempted.requested() and preempted.requested()
    assert signal.getsignal(number) == before


def test_each_context_starts_without_a_request():
    with PreemptionSignal() as first:
        os.kill(os.getpid(), signal.SIGTERM)
        assert first.requested()
    with PreemptionSignal() as second:
        assert not second.requested()


def test_a_signal_that_nobody_asked_for_is_not_lost():
    with pytest.raises(KeyboardInterrupt), PreemptionSignal():
        os.kill(os.getpid(), signal.SIGINT)


def test_preempted_ends_a_script_with_the_exit_code_for_a_restart():
    with pytest.raises(SystemExit) as ended:
        raise Preempted
    assert ended.value.code == exit_codes.RESTART
