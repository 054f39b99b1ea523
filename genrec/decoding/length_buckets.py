"""Batches of users with histories of similar length: less padding, and few shapes to compile."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

# Histories are padded to one of these shares of `max_history`: each is one compilation, and less work for short ones.
BUCKETS = (0.25, 0.5, 1.0)
# A bucket with fewer batches than this joins the next longer one: its compilation would cost more than it saves.
BATCHES_WORTH_COMPILING = 2


class Batch(NamedTuple):
    places: np.ndarray  # int64[n], which users; n may be less than the batch size
    max_history: int  # to which their histories are padded


def plan(lengths: np.ndarray, batch: int, max_history: int) -> list[Batch]:
    """Batches of at most `batch` users with histories of int[users] items, up to `max_history`; short ones first."""
    order = np.argsort(lengths, kind="stable")
    limits = sorted({math.ceil(max_history * share) for share in BUCKETS})
    batches: list[Batch] = []
    done = 0
    for limit in limits:
        last = limit == limits[-1]
        count = int((lengths <= limit).sum()) - done
        if not last:
            # Whole batches only: the rest is padded a little more, but fills the first batch of the next bucket.
            count = count // batch * batch if count >= BATCHES_WORTH_COMPILING * batch else 0
        for start in range(done, done + count, batch):
            batches.append(Batch(order[start : min(start + batch, done + count)], limit))
        done += count
    return batches


def ahead(batches: Iterable[Batch], function: Callable[[Batch], Any]) -> Iterator[tuple[Batch, Any]]:
    """Each batch with function(batch), which is called one batch ahead: a device need not wait for the next inputs."""
    waiting = None
    for batch in batches:
        found = batch, function(batch)
        if waiting is not None:
            yield waiting
        waiting = found
    if waiting is not None:
        yield waiting
