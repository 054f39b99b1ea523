"""Logs as lines of JSON on stdout, written by a thread of their own: a slow reader of them never stops the server."""

import collections
import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

INTERVAL = 0.1  # seconds between writes
MOST_WAITING = 10_000  # lines; further ones are dropped, and counted
FIELDS = "fields"  # attribute of a log record: further fields of its line


class Formatter(logging.Formatter):
    """Makes a line of JSON of a log record."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns time (ISO 8601, UTC), level, message, and the record's own fields."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Handler(logging.Handler):
    """Keeps records for a thread that writes them: a thread that is woken for each would keep the server waiting."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self.setFormatter(Formatter())
        self._stream, self._waiting, self._dropped = stream, collections.deque[logging.LogRecord](), 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(record)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        self._stopping.set()
        self._thread.join()
        super().close()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        if dropped := self._dropped:
            self._dropped -= dropped
            lost = logging.LogRecord("genrec", logging.WARNING, __file__, 0, "%d log lines dropped", (dropped,), None)
            lines.append(self.format(lost))
        while self._waiting:
            lines.append(self.format(self._waiting.popleft()))
        if lines:
            with contextlib.suppress(OSError, ValueError):  # nobody reads them, or the stream is closed
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()


@contextlib.contextmanager
def json_lines() -> Iterator[None]:
    """Returns a context in which all logs of the process are lines of JSON on stdout."""
    handler = _Handler(sys.stdout)
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before, level = root.handlers[:], root.level
    root.handlers, root.level = [handler], logging.INFO
    uvicorn.setLevel(logging.WARNING)  # its lines at the start say what ours do
    try:
        yield
    finally:
        handler.close()
        root.handlers, root.level = before, level
