"""SIGTERM and Ctrl-C: each ends a script with one line and `exit_codes.RESTART`, unless a stage handles it.

Importing the module catches both from then on. `genrec.command` imports it before anything else: the imports of a
script take seconds, in which it may be stopped, too.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from genrec import exit_codes, printing

STOPPING = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], Any]


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by SIGTERM and SIGINT, so that temporary folders are removed; names the signal."""


def report(stopped: KeyboardInterrupt) -> int:
    """Prints the line for a script that a signal stopped; returns its exit code."""
    name = str(stopped) or signal.SIGINT.name
    printing.show(
        f"{Path(sys.argv[0]).name}: stopped by {name}; the same command goes on.", file=sys.stderr, flush=True
    )
    return exit_codes.RESTART


@contextlib.contextmanager
def handled(handler: Handler, numbers: Sequence[signal.Signals] = STOPPING) -> Iterator[None]:
    """Returns a context in which `handler` receives the signals that are not ignored; only in the main thread."""
    earlier = {}
    if threading.current_thread() is threading.main_thread():
        earlier = {number: signal.getsignal(number) for number in numbers}
    # Handlers that are not Python's (None) cannot be restored; a background job ignores Ctrl-C.
    caught = {number: before for number, before in earlier.items() if before not in (None, signal.SIG_IGN)}
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in caught.items():
            signal.signal(number, before)


def run_child(command: Sequence[str | os.PathLike[str]]) -> int:
    """Runs a command to its end and passes signals on to it; returns its exit code, 128 + N if signal N killed it.

    Raises Stopped if there was a signal and the command ended with success or by the signal.
    """
    children: list[subprocess.Popen] = []
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(number)

    with handled(pass_on, (*STOPPING, signal.SIGHUP)):
        # In a process group of its own, so that Ctrl-C reaches it once: from here.
        child = subprocess.Popen(command, process_group=0)
        children.append(child)
        for number in received:  # while it was being started
            child.send_signal(number)
        code = child.wait()
    if received and code in (0, -received[0]):
        raise Stopped(signal.Signals(received[0]).name)
    return code if code >= 0 else 128 - code


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces the traceback of a script that is stopped before it runs: while it imports its modules."""
    if not isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    code = report(error)
    sys.stdout.flush()
    os._exit(code)


def _again(dropped: "sys.UnraisableHookArgs") -> None:
    """Repeats a signal that arrived in a destructor or a callback, where Python drops exceptions."""
    if not isinstance(dropped.exc_value, Stopped):
        sys.__unraisablehook__(dropped)
        return
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.Signals[str(dropped.exc_value)]))
    timer.daemon = True
    timer.start()


def _catch() -> None:
    sys.excepthook, sys.unraisablehook = _end, _again
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:  # one that is ignored stays ignored
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _stop)


_catch()
