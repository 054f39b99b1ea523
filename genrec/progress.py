"""Progress of long loops: a bar on a terminal, a line every now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from absl import logging
from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 20


def progress(steps: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields from `steps` and shows the progress out of `total` steps (by default the length of `steps`)."""
    if total is None and isinstance(steps, Sized):
        total = len(steps)
    if sys.stderr.isatty():
        yield from tqdm(steps, desc=description, total=total, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            logging.info("%s: %d of %s, %.0f s", description, done, total or "?", now - start)
