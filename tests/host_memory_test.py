"""Memory that is freed stays with the process, counted by the page faults of using as much again."""

import subprocess
import sys

import pytest

# Fills 256 MiB in a thread that starts after the import, twice, and prints the page faults of the second time.
SOURCE = """
{first}
import resource, threading
def fill():
    x = b"x" * (256 << 20)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SOURCE.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_a_large_buffer_takes_the_memory_of_the_last_one():
    # A fault brings 4 KiB, or 2 MiB where the kernel gives huge pages.
    without = faults("")
    assert without >= 128
    assert faults("from genrec import host_memory") < without / 2
