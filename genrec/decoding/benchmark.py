"""What decoding costs: the constraint against a search without one, the index, and each level of a real model."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from genrec.decoding.beam_search import beam_search
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Constraints
from genrec.decoding.filters import Filter
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.sorted_table import SortedTable

ELIGIBLE = 0.3  # share of the items that pass the filter
SEEN = 50  # items that are excluded


def random_codes(items: int, sizes: Sequence[int], seed: int = 0) -> np.ndarray:
    """uint16[items, levels]: distinct, the same number of items under each code, as k-means would like to have them."""
    random = np.random.default_rng(seed)
    codes = np.stack([random.integers(0, size, items, np.uint16) for size in sizes], axis=1)
    while len(codes := np.unique(codes, axis=0)) < items:
        more = [random.integers(0, size, items - len(codes), np.uint16) for size in sizes]
        codes = np.concatenate([codes, np.stack(more, axis=1)])
    return random.permutation(codes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unconstrained(CatalogueIndex):
    """Every sequence of codes exists, and nobody asks which item it is: what a beam search costs anyhow."""

    def score(self, state: BeamState, base: jax.Array, logits: jax.Array, constraints: Constraints | None) -> jax.Array:
        return base[..., None] + logits

    @property
    def tables(self) -> int:
        return self.levels

    def _descend(self, state: BeamState, parents: jax.Array, places: jax.Array) -> tuple[jax.Array, ...]:
        return places, parents, parents, parents


def in_turn(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median seconds of each call: all are called once to compile, then in turn for so many seconds in all."""
    for call in calls.values():
        jax.block_until_ready(call())
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in taken.items()}


def overhead(items: int, sizes: Sequence[int], batch: int, beams: int, seconds: float) -> dict[str, float]:
    """Median seconds of a search without constraint, with the catalogue's, with a filter and with seen items as well.

    The decoder gives the same random logits, which are there already: nothing but the search takes time.
    """
    random = np.random.default_rng(1)
    table = SortedTable.build(random_codes(items, sizes), sizes)
    live = LiveIndex(table, filters=1)
    eligible = frozenset(random.choice(items, int(items * ELIGIBLE), replace=False).tolist())
    seen = [random.choice(items, SEEN, replace=False) for _ in range(batch)]
    filtered = live.constraints([Restriction(Filter(allow=eligible))] * batch)
    without_seen = live.constraints([Restriction(exclude=some) for some in seen])
    plain = Unconstrained(*(getattr(live.index, field.name) for field in dataclasses.fields(live.index)))
    logits = [random.normal(0, 3, (batch, beams, size)).astype(np.float32) for size in sizes]

    @jax.jit
    def search(index: CatalogueIndex, logits: list[jax.Array], constraints: Constraints | None) -> jax.Array:
        def step(codes: jax.Array | None, level: int, cache: None) -> tuple[jax.Array, None]:
            return logits[level][:, : 1 if codes is None else codes.shape[1]], None

        return beam_search(step, index, batch, beams, constraints=constraints)

    logits, filtered, without_seen = jax.device_put((logits, filtered, without_seen))
    return in_turn(
        {
            "unconstrained": functools.partial(search, plain, logits, None),
            "catalogue": functools.partial(search, live.index, logits, None),
            f"filter of {ELIGIBLE:.0%}": functools.partial(search, live.index, logits, filtered),
            f"{SEEN} seen": functools.partial(search, live.index, logits, without_seen),
        },
        seconds,
    )
