"""Being asked to leave: a scheduler sends SIGTERM some time before it takes a machine away."""

import signal
import threading
from types import FrameType, TracebackType

import jax
from absl import logging
from jax.experimental import multihost_utils

from genrec import exit_codes


class Preempted(SystemExit):
    """Training saved its state, as it was asked to leave; ends a script with `exit_codes.RESTART`."""

    def __init__(self) -> None:
        super().__init__(exit_codes.RESTART)


class PreemptionSignal:
    """While this context lasts, SIGTERM does not end the process but is remembered.

    Among several processes the notice reaches all, and at the same call of `requested` in each: whoever gets the signal
    tells the others through `jax.distributed`.
    """

    def __init__(self) -> None:
        self._signaled = False
        self._requested = False
        self._calls = 0
        self._earlier: signal.Handlers | None = None

    def __enter__(self) -> "PreemptionSignal":
        # Where there are several processes JAX has its own handler; Python allows handlers in the main thread only.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._signaled = True

    def requested(self) -> bool:
        """Whether to leave now. Every process must call this equally often."""
        if not self._requested:
            self._calls += 1
            several = jax.process_count() > 1
            self._requested = multihost_utils.reached_preemption_sync_point(self._calls) if several else self._signaled
            if self._requested:
                logging.info("asked to leave (SIGTERM)")
        return self._requested
