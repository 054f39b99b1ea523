"""Scripts that are run to see how they end, several at a time."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from forked_scripts import Script

from genrec import exit_codes

AT_ONCE = len(os.sched_getaffinity(0))
LINES, CHARACTERS = 6, 1500  # the longest that a message for people is
CONFIG = "--config=configs/quickstart.py:tiny"
STAGES = ("dataset", "item_embeddings", "semantic_ids", "transitions")

Case = TypeVar("Case")
Result = TypeVar("Result")
_numbers = itertools.count()
_processes = threading.Lock()  # to start one, multiprocessing asks all others whether they have ended


def returncode(script: Script) -> int | None:
    """Returns the exit code of a script that one of several threads has started; None while it runs."""
    with _processes:
        return script.returncode


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a script ended."""

    command: tuple[str, ...]
    code: int
    output: str
    errors: str

    @property
    def message(self) -> str:
        """Returns what the script says of its end: the last that it prints, from its name on; "" if it says nothing."""
        printed = f"\n{self.errors}"
        start = max(printed.rfind(f"\n{Path(self.command[0]).name}: "), printed.rfind("\nFATAL "))  # or absl does
        return printed[start:].strip() if start >= 0 else ""

    @property
    def verdict(self) -> str:
        """Returns "accepted", "refused" (a clear message and exit code 1), "traceback", or "unclear"."""
        if self.code == 0:
            return "accepted"
        if "Traceback" in self.errors or self.code not in (exit_codes.FAILED, exit_codes.RESTART):
            return "traceback"
        clear = self.message and len(self.message) <= CHARACTERS and len(self.message.splitlines()) <= LINES
        return "refused" if clear and self.code == exit_codes.FAILED else "unclear"

    def __str__(self) -> str:
        return f"{' '.join(self.command)[:300]}\n    ended with {self.code}: {self.errors.strip()[-600:]}"


class Folder:
    """A temporary folder for work directories and for the output of scripts."""

    def __init__(self, path: Path):
        self.path = path
        self.finished = path / "finished"  # a work directory after all stages
        self.interrupted = path / "interrupted"  # one in the middle of training, with two checkpoints
        self.recommendations = ""  # of the finished one

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator["Folder"]:
        with tempfile.TemporaryDirectory(prefix="genrec_reliability_") as path:
            yield cls(Path(path))

    def new(self) -> Path:
        """Returns a path where nothing is yet."""
        return self.path / str(next(_numbers))

    def copy(self, source: Path | None = None, parts: Iterable[str] | None = None) -> Path:
        """Copies a work directory, by default the finished one, or only some of its folders."""
        source, target = source or self.finished, self.new()
        if parts is None:
            return shutil.copytree(source, target)
        for part in parts:
            shutil.copytree(source / part, target / part)
        return target

    def start(self, *command: str, typed: str = "") -> Script:
        with _processes:
            return Script(self.new(), *command, typed=typed)

    def run(
        self, *command: str, typed: str = "", seconds: float = 120, until: Callable[[], bool] = lambda: False
    ) -> Ended:
        """Runs a script to its end, but not longer than `seconds`, and not after `until` holds: then it is killed.

        A script of which `until` held counts as one that ended with 0.
        """
        script, deadline = self.start(*command, typed=typed), time.monotonic() + seconds
        while (code := returncode(script)) is None:
            time.sleep(0.01)
            if until() or time.monotonic() > deadline:
                code = 0 if until() else -signal.SIGALRM
                script.kill()
                break
        return Ended(command, code, script.output, script.errors)


def every(function: Callable[[Case], Result], cases: Iterable[Case]) -> list[Result]:
    """Returns the results of a function that runs scripts, several at a time, in the order of the cases."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, cases))
