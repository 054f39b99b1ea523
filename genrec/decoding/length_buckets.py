"""Length buckets: batches of users with histories of similar length, for less padding in few compiled shapes."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

# Histories are padded to one of these shares of `max_history`; each is a compilation.
BUCKETS = (0.25, 0.5, 1.0)
# A bucket with fewer batches joins the next longer one, because its compilation would cost more time than it saves.
MIN_BATCHES = 2
T = TypeVar("T")


class Batch(NamedTuple):
    """Users of one batch."""

    users: np.ndarray  # int64[n], their places; n may be less than the batch size
    max_history: int  # items to which their histories are padded


def plan_batches(lengths: np.ndarray, batch: int, max_history: int) -> list[Batch]:
    """Plans batches of at most `batch` users with histories of int[users] items, shortest first."""
    order = np.argsort(lengths, kind="stable")
    limits = sorted({math.ceil(max_history * share) for share in BUCKETS})
    batches: list[Batch] = []
    done = 0
    for limit in limits:
        last = limit == limits[-1]
        count = int((lengths <= limit).sum()) - done
        if not last:
            # Full batches only: the rest is padded more, but fills the first batch of the next bucket.
            count = count // batch * batch if count >= MIN_BATCHES * batch else 0
        for start in range(done, done + count, batch):
            batches.append(Batch(order[start : min(start + batch, done + count)], limit))
        done += count
    return batches


def prefetch(batches: Iterable[Batch], function: Callable[[Batch], T]) -> Iterator[tuple[Batch, T]]:
    """Yields each batch with function(batch), called one batch ahead so that devices do not wait for inputs."""
    waiting: tuple[Batch, T] | None = None
    for batch in batches:
        found = batch, function(batch)
        if waiting is not None:
            yield waiting
        waiting = found
    if waiting is not None:
        yield waiting
