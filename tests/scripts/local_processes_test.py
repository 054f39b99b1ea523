"""launch/local_processes.py, with a script that says who it is."""

import pytest
from forked_scripts import Script

from genrec import exit_codes

WHO = """
import os, signal, sys, time
number = int(os.environ["JAX_PROCESS_ID"])
print("process", number, "of", os.environ["JAX_NUM_PROCESSES"], "with", os.environ["JAX_NUM_CPU_DEVICES"], flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts two processes of a script with this text."""

    def with_text(text: str) -> Script:
        (tmp_path / "who.py").write_text(WHO + text)
        flags = "--processes=2", "--devices=3", "--", str(tmp_path / "who.py")
        return Script(tmp_path / "logs", "launch/local_processes.py", *flags)

    return with_text


def test_processes_know_their_number_and_their_devices(start):
    script = start("")
    assert script.wait() == 0
    assert sorted(script.output.splitlines()) == [f"[{n}] process {n} of 2 with 3" for n in range(2)]


def test_sigterm_reaches_all(start):
    leave = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({exit_codes.RESTART}))\nprint('ready', flush=True)\n"
    script = start(leave + "time.sleep(60)")
    for number in range(2):
        script.wait_for(f"[{number}] ready")
    script.terminate()
    assert script.wait() == exit_codes.RESTART


def test_an_error_of_one_is_that_of_all(start):
    assert start("if number == 1: sys.exit(7)\ntime.sleep(0.2)").wait() == 7
