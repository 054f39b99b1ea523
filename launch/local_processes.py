"""Runs a script as several processes of one run on this machine's CPU, as a cluster would run it on several hosts.

    python launch/local_processes.py --processes=2 -- launch/train.py --config=configs/quickstart.py:tiny --workdir=/tmp

For tests and demonstrations: every process has its own `--devices` devices, and collectives use Gloo. SIGTERM and
Ctrl-C reach all as SIGTERM. If one fails the others are stopped, and the exit code is that of the first failure.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import app, flags

from genrec import printing, script_flags

_PROCESSES = flags.DEFINE_integer("processes", 2, "Number of processes.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", 1, "CPU devices per process.", lower_bound=1)


def start(number: int, port: int, command: list[str]) -> subprocess.Popen:
    """Starts process `number`, with the coordinator at `port`, and prints its output."""
    xla = " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if "platform_device_count" not in flag)
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": _PROCESSES.value, "XLA_FLAGS": xla}
    job |= {"JAX_PROCESS_ID": number, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": _DEVICES.value}
    environment = os.environ | {name: str(value) for name, value in job.items()}
    pipe, joint, command = subprocess.PIPE, subprocess.STDOUT, [sys.executable, *command]
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=joint, errors="replace")
    threading.Thread(target=printing.show_lines, args=(process.stdout or (), f"[{number}] ")).start()
    return process


def main(arguments: list[str]) -> None:
    if len(arguments) < 2:
        raise app.UsageError("Give a script and its flags after --, as: -- launch/train.py --config=...")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [start(number, port, arguments[1:]) for number in range(_PROCESSES.value)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: list(map(subprocess.Popen.terminate, processes)))
    while not any(codes := [process.poll() for process in processes]) and None in codes:
        time.sleep(0.1)
    failed = next((code for code in codes if code), 0)
    deadline = time.monotonic() + 30  # the others may be exiting, too, with the same code
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
    sys.exit(failed if failed >= 0 else 128 - failed)


if __name__ == "__main__":
    app.run(main, flags_parser=script_flags.parse)
