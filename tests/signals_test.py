"""SIGTERM and Ctrl-C in processes that have imported nothing but the module, and in the children of such processes."""

import signal
import subprocess
import sys

import pytest

from genrec import exit_codes, signals

WAIT = "import time\nfrom genrec import signals\nprint('ready', flush=True)\ntime.sleep(60)\n"


def stopped_by(number: int, source: str) -> tuple[int, str, str]:
    """Runs Python, sends it a signal when it is ready; returns exit code, the rest of its output, and errors."""
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)
def test_a_script_that_is_stopped_ends_with_one_line(number):
    code, _, errors = stopped_by(number, WAIT)
    assert code == exit_codes.RESTART and number.name in errors
    assert len(errors.splitlines()) == 1 and "same command" in errors


def test_a_signal_in_a_callback_is_not_lost():
    source = "import gc, time\nfrom genrec import signals\n"
    source += "def slow(*_):\n    gc.callbacks.clear()\n    print('ready', flush=True)\n    time.sleep(60)\n"
    code, _, errors = stopped_by(signal.SIGTERM, source + "gc.callbacks.append(slow)\ngc.collect()\ntime.sleep(60)\n")
    assert code == exit_codes.RESTART and len(errors.splitlines()) == 1


def test_other_exceptions_keep_their_traceback():
    ended = subprocess.run(
        [sys.executable, "-c", "from genrec import signals\nint('nine')"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "nine" in ended.stderr


@pytest.mark.parametrize(
    ("source", "code"), [("", 0), ("import sys; sys.exit(70)", 70), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_of_a_child_is_passed_on(source, code):
    before = [signal.getsignal(number) for number in signals.STOPPING]
    assert signals.run_child([sys.executable, "-c", source]) == code
    assert [signal.getsignal(number) for number in signals.STOPPING] == before


@pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)
def test_signals_are_passed_on_to_a_child(number):
    run = "import sys\nfrom genrec import signals\nsys.exit(signals.run_child([sys.executable, '-c', child]))"
    code, _, errors = stopped_by(number, f"child = {WAIT!r}\n{run}")
    assert code == exit_codes.RESTART and errors.count(number.name) == 1
    finishing = (
        "import signal, time\nsignal.signal(number, lambda *_: exit(0))\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    code, _, errors = stopped_by(number, f"child = {f'number = {int(number)}' + chr(10) + finishing!r}\n{run}")
    assert code == exit_codes.RESTART and errors.count(number.name) == 1  # it has more to do, and was told to stop
