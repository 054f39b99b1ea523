"""Memory that a function holds, for tests of what must not grow."""

import contextlib
import tracemalloc
from collections.abc import Iterator

import pyarrow as pa


def held() -> int:
    """Returns the bytes that Python, NumPy and Arrow hold."""
    return tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()


class Peak:
    """The most bytes that were held when `note` was called, beyond those held before."""

    def __init__(self) -> None:
        self._before = self._most = held()

    def note(self) -> None:
        self._most = max(self._most, held())

    @property
    def bytes(self) -> int:
        return self._most - self._before


@contextlib.contextmanager
def traced() -> Iterator[Peak]:
    """Yields a peak; memory is traced within the block."""
    tracemalloc.start()
    try:
        yield Peak()
    finally:
        tracemalloc.stop()
