"""Scripts as forked processes: a fork server has imported the libraries, which takes seconds, once for all scripts.

A fork runs the file of the script as `__main__`, with its arguments and environment, and files as standard input and
output. It is a process like any other: it can be killed, and ends with the exit code of the script. The server has
imported only what scripts import, and initialized no device.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[1]
SECONDS = 300  # the longest that a script may take
# Without genrec.command: it defines flags, some of which launch/local_processes.py has too.
# With what they import only where it is used.
IMPORTED = (
    "genrec.training.train",
    "genrec.evaluation.card",
    "genrec.serving.command_line",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pyarrow.compute",
    "sklearn.decomposition",
    "sklearn.feature_extraction.text",
)

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(IMPORTED))


def _run(command: list[str], environment: dict[str, str], typed: str, output: str, errors: str) -> None:
    os.chdir(ROOT)
    for number, name, flags in (
        (0, typed, os.O_RDONLY),
        (1, output, os.O_WRONLY | os.O_APPEND),
        (2, errors, os.O_WRONLY | os.O_APPEND),
    ):
        os.dup2(os.open(name, flags), number)
    # multiprocessing has closed the standard input, and Python still writes to the earlier files.
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.environ.clear()
    os.environ.update(environment)
    # What the server has imported is garbage in no process, and looking for it takes longer than the script's own work.
    gc.freeze()
    import jax

    jax.config.update("jax_num_cpu_devices", int(environment["JAX_NUM_CPU_DEVICES"]))
    sys.argv = command
    sys.path.insert(0, str(ROOT / Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")


class Script:
    """A running script, whose output goes to files in `folder`."""

    def __init__(
        self,
        folder: Path,
        *command: str,
        typed: str = "",
        devices: int = 1,
        environment: Mapping[str, str] = MappingProxyType({}),
    ):
        """Starts the script: `command` is its path, relative to ROOT, and its flags; `typed` is its standard input.

        `environment` is added to that of the tests.
        """
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        self._files = [folder / f"{number}_{name}" for name in ("typed", "output", "errors")]
        for path, text in zip(self._files, (typed, "", ""), strict=True):
            path.write_text(text)
        whole = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices), **environment}
        self._process: ForkServerProcess = _server.Process(
            target=_run, args=(list(command), whole, *map(str, self._files))
        )
        self._process.start()

    @property
    def output(self) -> str:
        return self._files[1].read_text()

    @property
    def errors(self) -> str:
        return self._files[2].read_text()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "not started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Returns the exit code; None while the script runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Waits for the end of the script, and returns its exit code."""
        self._process.join(SECONDS)
        assert self._process.exitcode is not None, f"still running after {SECONDS} seconds: {self.errors[-3000:]}"
        return self._process.exitcode

    def wait_for(self, text: str) -> None:
        """Waits until the script has written `text`."""
        end = time.monotonic() + SECONDS
        while text not in self.output + self.errors:
            ended = self._process.exitcode is not None and text not in self.output + self.errors
            assert not ended and time.monotonic() < end, f"no {text!r}: {self.errors[-3000:]}"
            time.sleep(0.01)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._process.terminate()

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does."""
        os.kill(self._process.pid or 0, signal.SIGINT)

    def kill(self) -> None:
        """Sends SIGKILL, and waits for the end of the script."""
        self._process.kill()
        self._process.join()
