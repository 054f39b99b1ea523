"""Preemption: SIGTERM, sent before a machine is taken away, and Ctrl-C are recorded and handled at the next step."""

import contextlib
import os
import signal
from types import FrameType

import jax
from absl import logging
from jax.experimental import multihost_utils

from genrec import exit_codes, signals


class Preempted(SystemExit):
    """Training stopped by preemption, with its state saved; ends a script with `exit_codes.RESTART`."""

    def __init__(self) -> None:
        super().__init__(exit_codes.RESTART)


class PreemptionSignal:
    """Context in which SIGTERM and SIGINT do not end the process but request a preemption.

    Among several processes, a signal to any of them requests the preemption of all, at the same call of `requested` in
    each, through `jax.distributed`. A signal after the last call of `requested` takes effect at the end of the context.
    """

    def __init__(self) -> None:
        self._signaled: int | None = None
        self._requested = False
        self._calls = 0
        self._handled = contextlib.ExitStack()

    def __enter__(self) -> "PreemptionSignal":
        # With several processes, JAX has its own handler of SIGTERM.
        numbers = signals.STOPPING if jax.process_count() == 1 else (signal.SIGINT,)
        self._handled.enter_context(signals.handled(self._record, numbers))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._handled.close()
        number = None if kind or self._requested else self._signaled
        if number is not None and callable(signal.getsignal(number)):
            signal.raise_signal(number)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # Ctrl-C: to JAX, which tells the other processes
        self._signaled = number

    def requested(self) -> bool:
        """Returns whether a preemption is requested, equal in all processes: a collective that all must call."""
        if not self._requested:
            self._calls += 1
            if jax.process_count() > 1:
                self._requested = multihost_utils.reached_preemption_sync_point(self._calls)
            else:
                self._requested = self._signaled is not None
            if self._requested:
                name = signal.SIGTERM.name if self._signaled is None else signal.Signals(self._signaled).name
                logging.info("preemption requested (%s)", name)
        return self._requested
