"""Runs a script as several processes of one run on this machine's CPU, as a cluster would run it on several hosts.

    python launch/local_processes.py --processes=2 --devices=2 -- \
        launch/train.py --config=configs/quickstart.py:tiny --workdir=/tmp/quickstart

For tests and demonstration: every process has `--devices` devices of its own and talks to the others by gloo. When one
ends with an error the others are stopped, and SIGTERM is passed on; the exit code is that of the first failure.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import app, flags

_PROCESSES = flags.DEFINE_integer("processes", 2, "Processes to start.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", 1, "CPU devices of each process.", lower_bound=1)


def start(number: int, port: int, command: list[str]) -> subprocess.Popen:
    xla = " ".join(flag for flag in os.environ.get("XLA_FLAGS", "").split() if "platform_device_count" not in flag)
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": _PROCESSES.value, "XLA_FLAGS": xla}
    job |= {"JAX_PROCESS_ID": number, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": _DEVICES.value}
    environment = os.environ | {name: str(value) for name, value in job.items()}
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    process = subprocess.Popen([sys.executable, *command], env=environment, **output)
    lines = (f"[{number}] {line}" for line in process.stdout)
    threading.Thread(target=lambda: [print(line, end="", flush=True) for line in lines]).start()
    return process


def main(arguments: list[str]) -> None:
    if len(arguments) < 2:
        raise app.UsageError("Name a script and its flags after --, as: -- launch/train.py --config=...")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(number, port, arguments[1:]) for number in range(_PROCESSES.value)]
    signal.signal(signal.SIGTERM, lambda *_: [process.send_signal(signal.SIGTERM) for process in processes])
    codes: list[int | None] = [None]
    while None in codes and not any(codes):
        time.sleep(0.1)
        codes = [process.poll() for process in processes]
    failed = next((code for code in codes if code), 0)
    deadline = time.monotonic() + 30  # the others may be on their way out too, with the same code
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
    sys.exit(failed if failed >= 0 else 128 - failed)


if __name__ == "__main__":
    app.run(main)
