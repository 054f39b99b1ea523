"""Preemption: SIGTERM, sent before a machine is taken away, is recorded and handled at the next step."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

from genrec import exit_codes


class Preempted(SystemExit):
    """Training stopped by preemption, with its state saved; ends a script with `exit_codes.RESTART`."""

    def __init__(self) -> None:
        super().__init__(exit_codes.RESTART)


class PreemptionSignal:
    """Context in which SIGTERM does not end the process but requests a preemption.

    Among several processes, a signal to any of them requests the preemption of all, at the same call of `requested` in
    each, through `jax.distributed`.
    """

    def __init__(self) -> None:
        self._signaled = False
        self._requested = False
        self._calls = 0
        self._earlier: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> "PreemptionSignal":
        # With several processes, JAX has its own handler; Python allows handlers in the main thread only.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._record)
        return self

    def __exit__(self, *error: object) -> None:
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._signaled = True

    def requested(self) -> bool:
        """Returns whether a preemption is requested, equal in all processes: a collective that all must call."""
        if not self._requested:
            self._calls += 1
            several = jax.process_count() > 1
            self._requested = multihost_utils.reached_preemption_sync_point(self._calls) if several else self._signaled
            if self._requested:
                logging.info("preemption requested (SIGTERM)")
        return self._requested
