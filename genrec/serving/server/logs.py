"""Logs as lines of JSON on stdout, written by a thread of their own: a slow reader of them never stops the server."""

import contextlib
import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Iterator

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


class _Handler(logging.handlers.QueueHandler):
    """Hands records to the thread that writes them."""

    def __init__(self, waiting: "queue.Queue[object]"):
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # the writer formats it, in the same process

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Listener(logging.handlers.QueueListener):
    """Writes records; says how many were dropped once it comes through again."""

    def __init__(self, handler: _Handler, writer: logging.Handler):
        super().__init__(handler.queue, writer)
        self._handler = handler

    def handle(self, record: logging.LogRecord) -> None:
        if dropped := self._handler.dropped:
            self._handler.dropped -= dropped
            lost = logging.LogRecord("genrec", logging.WARNING, __file__, 0, "%d log lines dropped", (dropped,), None)
            super().handle(lost)
        super().handle(record)


@contextlib.contextmanager
def json_lines() -> Iterator[None]:
    """Returns a context in which all logs of the process are lines of JSON on stdout."""
    writer = logging.StreamHandler(sys.stdout)
    writer.setFormatter(Formatter())
    handler = _Handler(queue.Queue(MOST_WAITING))
    listener = _Listener(handler, writer)
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before, level = root.handlers[:], root.level
    root.handlers, root.level = [handler], logging.INFO
    uvicorn.setLevel(logging.WARNING)  # its lines at the start say what ours do
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.handlers, root.level = before, level
