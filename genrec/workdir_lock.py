"""Lock of a work directory: one run at a time writes into it. Readers, and evaluations, take no lock.

`WORKDIR/.lock` is JSON: host, process, start, command, a random token, and a heartbeat, which a thread renews. It does
not rely on locks of the file system, which buckets do not have:

* The file is made by a hard link where there are any, which only one process can make. Elsewhere it is renamed into
  place, and read again after SETTLE_SECONDS: of two processes that found no lock, one finds the token of the other.
* The lock of a process of this machine that has ended is taken over at once.
* Whether any other process still runs is seen by its heartbeat alone, without comparing clocks: its lock is taken over
  if it has not changed while it was watched for WATCH_SECONDS.
* A run that finds another token than its own ends at once.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from absl import logging
from etils import epath

from genrec import distributed, exit_codes, files, printing
from genrec.errors import GenrecError

FILE = ".lock"
HEARTBEAT_SECONDS = 10.0
WATCH_SECONDS = 90.0  # more than the 60 for which mounted buckets cache what they know of a file
SETTLE_SECONDS = 3.0
POLL_SECONDS = 5.0  # between looks at the lock of another process


class WorkdirLockError(GenrecError):
    """Another run writes into the work directory. The message says which, and how to go on if it is dead."""


@dataclasses.dataclass
class Owner:
    """Content of the lock file."""

    host: str
    system: str  # boot and process namespace, within which process ids can be compared
    process: int
    process_start: str  # of `_start_of`: process ids are used again
    since: str
    command: str
    token: str
    heartbeat: str

    @classmethod
    def myself(cls) -> "Owner":
        command, now, process = " ".join(sys.argv)[:300], _now(), os.getpid()
        return cls(socket.gethostname(), _system(), process, _start_of(process), now, command, uuid.uuid4().hex, now)

    def is_here(self) -> bool:
        """Returns whether this is or was a process of this machine, since its last start."""
        return (self.host, self.system) == (socket.gethostname(), _system())

    def is_dead(self) -> bool:
        """Returns whether this is a process of this machine that has ended."""
        if not self.is_here():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError, TypeError):
            return False
        return _start_of(self.process) != self.process_start

    def __str__(self) -> str:
        return (
            f"process {self.process} on {self.host} ({self.command!s:.150}) since {self.since}, last heartbeat "
            f"{self.heartbeat}"
        )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _system() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""


def _start_of(process: int) -> str:
    """Returns when a process of this machine was started, in clock ticks since the system was; empty if not known."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux
        return ""
    return "ended" if fields[0] == "Z" else fields[19]


class _Lock:
    """The lock of a folder, to be held by this process."""

    def __init__(self, folder: epath.Path):
        self.holders = 0
        self._folder, self._path, self._made = folder, folder / FILE, not folder.exists()
        self._owner = Owner.myself()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat of the work directory", daemon=True)

    def acquire(self) -> None:
        """Writes the lock file, and starts the heartbeat; raises WorkdirLockError if another process has the lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = _read(self._path)
        if earlier is not None:
            earlier = _wait_for_end(self._path, earlier)
        temporary = self._write()
        try:
            if not self._claim(temporary, earlier):
                temporary.replace(self._path)
                time.sleep(SETTLE_SECONDS)
        finally:
            temporary.unlink(missing_ok=True)
        self.confirm()
        files.remove_leftovers(self._folder)
        self._thread.start()

    def _claim(self, temporary: epath.Path, earlier: str | None) -> bool:
        """Puts the lock into place so that no other process can do so too; returns False where that is impossible.

        `earlier` is the lock that is taken over. Only one process can link the name that belongs to its content.
        """
        if "://" in str(self._path):
            return False
        name = f"{FILE}.after.{hashlib.sha256(earlier.encode()).hexdigest()[:16]}" if earlier is not None else FILE
        claim = self._folder / name
        try:
            os.link(temporary, claim)
        except FileExistsError:
            winner = _owner(_read(claim))
            if earlier is not None and winner is not None and winner.is_dead():
                return False  # it was killed while it took the lock over
            raise WorkdirLockError(_refusal(self._path, _read(claim))) from None
        except OSError:  # a file system without links
            return False
        if earlier is not None:
            if _read(self._path) != earlier:
                claim.unlink()
                raise WorkdirLockError(_refusal(self._path, _read(self._path)))
            temporary.replace(self._path)
            claim.unlink()
        return True

    def confirm(self) -> None:
        """Raises WorkdirLockError if another process has the lock."""
        found = _read(self._path)
        if not self._is_mine(found):
            raise WorkdirLockError(_refusal(self._path, found))

    def release(self) -> None:
        """Ends the heartbeat, and removes the lock file unless another process has the lock."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_mine(_read(self._path)):
                self._path.unlink()
            if self._made and not any(self._folder.iterdir()):
                self._folder.rmdir()

    def _is_mine(self, content: str | None) -> bool:
        owner = _owner(content)
        return owner is not None and owner.token == self._owner.token

    def _write(self) -> epath.Path:
        """Writes the content of the lock file under a temporary name, and returns it."""
        self._owner.heartbeat = _now()
        temporary = files.temporary_path(self._path)
        temporary.write_text(files.to_json(dataclasses.asdict(self._owner), indent=2) + "\n")
        return temporary

    def _beat(self) -> None:
        failing = False
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                found = _read(self._path)
                if found is not None and not self._is_mine(found):
                    # Not an exception, which only the main thread would notice, at some later time. What is on disk is
                    # as after a kill: complete.
                    refusal = f"{_refusal(self._path, found)} This run ends: the lock was its own."
                    printing.show(refusal, file=sys.stderr, flush=True)
                    os._exit(exit_codes.FAILED)
                self._write().replace(self._path)
                failing = False
            except OSError as problem:
                if not failing:
                    logging.warning("%s cannot be renewed, and is tried again: %s", self._path, problem)
                failing = True


_held: dict[epath.Path, _Lock] = {}  # by folder


@contextlib.contextmanager
def hold(workdir: epath.PathLike) -> Iterator[None]:
    """Context in which this run alone writes into a work directory; makes the folder. Contexts can be nested.

    A collective: all processes of a run call it, and process 0 takes the lock. Raises WorkdirLockError in all of them
    if another run has it, or if the folder cannot be written.
    """
    folder = files.resolved(workdir)
    error: WorkdirLockError | None = None
    if distributed.is_first():
        try:
            _acquire(folder)
        except WorkdirLockError as problem:
            error = problem
        except (OSError, ImportError) as problem:  # ImportError: a bucket without its package
            error = WorkdirLockError(f"{workdir}: cannot be written: {problem!s:.300}. Choose another --workdir.")
    if not distributed.everywhere(error is None):
        raise error or WorkdirLockError(f"{workdir}: process 0 cannot lock it, and says why.")
    try:
        yield
    finally:
        if distributed.is_first():
            _release(folder)


def is_held(workdir: epath.PathLike) -> bool:
    """Returns whether this process holds the lock of a work directory."""
    return files.resolved(workdir) in _held


def confirm(workdir: epath.PathLike) -> None:
    """Raises WorkdirLockError if another process has taken the lock of a work directory from this one."""
    if lock := _held.get(files.resolved(workdir)):
        lock.confirm()


def _acquire(folder: epath.Path) -> None:
    if folder not in _held:
        lock = _Lock(folder)
        lock.acquire()
        _held[folder] = lock
    _held[folder].holders += 1


def _release(folder: epath.Path) -> None:
    _held[folder].holders -= 1
    if not _held[folder].holders:
        _held.pop(folder).release()


def _wait_for_end(path: epath.Path, earlier: str) -> str | None:
    """Returns the lock that can be taken over, None if it was released; raises WorkdirLockError if its owner runs."""
    owner = _owner(earlier)
    if owner is not None and owner.is_here():
        if not owner.is_dead():
            raise WorkdirLockError(_refusal(path, earlier))
        logging.warning("taking over the lock of %s, which has ended", owner)
        return earlier
    logging.warning(
        "%s is locked by %s: watching for %.0f seconds whether it still runs", path.parent, owner, WATCH_SECONDS
    )
    end = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        found = _read(path)
        if found is None:
            return None
        if found != earlier:
            raise WorkdirLockError(_refusal(path, found))
    logging.warning("taking over the lock of %s, which had no heartbeat for %.0f seconds", owner, WATCH_SECONDS)
    return earlier


def _read(path: epath.Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None


def _owner(content: str | None) -> Owner | None:
    """Returns the owner that a lock file names; None if there is none, or its content is damaged."""
    try:
        return Owner(**json.loads(content or ""))
    except (ValueError, TypeError):
        return None


def _refusal(path: epath.Path, content: str | None) -> str:
    return (
        f"{path.parent}: another run writes here: {_owner(content) or 'not known which'}. Wait for it, stop it, or "
        f"choose another --workdir. If it is dead: rm {path}"
    )
