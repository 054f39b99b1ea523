"""What decoding costs: the constraint against a search without one, the index, and each level of a real model."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from flax import nnx

from genrec import config
from genrec.data.filters import Filter
from genrec.decoding import beam_search, loaded_model
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Constraints
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories, Tokenizer, histories
from genrec.models import load, run_record

ELIGIBLE = 0.3  # share of the items that pass the filter
SEEN = 50  # items that are excluded
CHANGED = 1000  # items that come, and that go


def random_codes(items: int, sizes: Sequence[int], seed: int = 0) -> np.ndarray:
    """uint16[items, levels]: every code as likely as any other of its level."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(0, size, items, np.uint16) for size in sizes], axis=1)


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
    while not taken[next(iter(calls))] or time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in taken.items()}


def overhead(items: int, sizes: Sequence[int], batch: int, beams: int, seconds: float) -> str:
    """What a search takes without constraint, with the catalogue's, with a filter, and with seen items left out.

    The decoder gives the same random logits, which are there already: nothing but the search takes time.
    """
    random = np.random.default_rng(1)
    table = SortedTable.build(random_codes(items, sizes), sizes)
    live = LiveIndex(table, filters=1)
    eligible = frozenset(random.choice(items, int(items * ELIGIBLE), replace=False).tolist())
    seen = [random.choice(items, SEEN, replace=False) for _ in range(batch)]
    filtered = live.constraints([Restriction(Filter(allow=eligible))] * batch)
    without_seen = live.constraints([Restriction(exclude=some) for some in seen])
    plain = Unconstrained.of(live.index)
    logits = [random.normal(0, 3, (batch, beams, size)).astype(np.float32) for size in sizes]

    @jax.jit
    def search(index: CatalogueIndex, logits: list[jax.Array], constraints: Constraints | None) -> jax.Array:
        def step(codes: jax.Array | None, level: int, cache: None) -> tuple[jax.Array, None]:
            return logits[level][:, : 1 if codes is None else codes.shape[1]], None

        return beam_search.beam_search(step, index, batch, beams, constraints=constraints)

    logits, filtered, without_seen = jax.device_put((logits, filtered, without_seen))
    taken = in_turn(
        {
            "unconstrained": functools.partial(search, plain, logits, None),
            "catalogue": functools.partial(search, live.index, logits, None),
            f"filter of {ELIGIBLE:.0%}": functools.partial(search, live.index, logits, filtered),
            f"{SEEN} seen": functools.partial(search, live.index, logits, without_seen),
        },
        seconds,
    )
    lines = [f"{items:,} items, {len(sizes)} levels of {sizes[0]}, batch x beam {batch} x {beams}"]
    for name, median in taken.items():
        lines.append(
            f"  {name:16}{median * 1e3:8.2f} ms {median / taken['unconstrained']:6.2f} of unconstrained "
            f"{median / taken['catalogue']:6.2f} of catalogue"
        )
    return "\n".join(lines)


def index_costs(items: int, sizes: Sequence[int]) -> str:
    """How long an index takes to make and to change, and how many bytes it has."""
    lines, codes = [], random_codes(items, sizes)
    some = Filter(allow=frozenset(range(0, items, 3)))
    new, new_codes = np.arange(items, items + CHANGED), random_codes(CHANGED, sizes, seed=1)

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        lines.append(f"{name:40}{time.perf_counter() - start:9.2f} s")

    with timed("sort"):
        table = SortedTable.build(codes, sizes)
    with timed("arrays of the sorted table, on the device"):
        live = LiveIndex(table, filters=0)
        jax.block_until_ready(live.index)
    parts = {name: getattr(live.index, name) for name in ("starts", "columns", "items", "filters")}
    sizes_of = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(part)) / 1e6 for name, part in parts.items()}
    live_filters = LiveIndex(table, filters=1)
    with timed("a filter"):
        live_filters.constraints([Restriction(some)])
        jax.block_until_ready(live_filters.index)
    with timed(f"add {CHANGED} items, remove {CHANGED}"):
        live.update(new, new_codes, np.arange(CHANGED))
        jax.block_until_ready(live.index)
    shares = ", ".join(f"{name} {size:.1f}" for name, size in sizes_of.items())
    lines.append(f"{sum(sizes_of.values()):.1f} MB ({shares}); layout {live.index.layout}")
    return "\n".join(lines)


class Costs(NamedTuple):
    """Seconds of the parts of a search, one number a level but for the encoder and the whole."""

    encoder: float
    model: list[float]  # logits of a level
    mask: list[float]  # their normalizer, and which children there are
    top_k: list[float]  # the best of them, and their ranges
    reorder: list[float]  # of the cache
    whole: float  # the search in one compiled function

    def __str__(self) -> str:
        parts = np.array([self.model, self.mask, self.top_k, [*self.reorder, 0.0]]) * 1e3
        lines = [f"{'level':8}{'model':>10}{'mask':>10}{'top-k':>10}{'reorder':>10}   ms"]
        lines += [f"{level:<8}" + "".join(f"{part:10.2f}" for part in of) for level, of in enumerate(parts.T)]
        lines.append(f"{'all':8}" + "".join(f"{part:10.2f}" for part in parts.sum(axis=1)))
        one_by_one = self.encoder * 1e3 + parts.sum()
        lines.append(
            f"encoder {self.encoder * 1e3:.2f} ms; one by one {one_by_one:.2f} ms; whole {self.whole * 1e3:.2f}"
        )
        return "\n".join(lines)


def costs(retriever: Retriever, params: nnx.State, rows: Histories, seconds: float) -> Costs:
    """What each level of a search costs, each part in a compiled function of its own, which runs alone.

    In one function XLA joins some of their loops, so the whole may take less than its parts.
    """
    graphdef, index, beams = retriever.graphdef, retriever.live.index, retriever.beams

    @functools.partial(jax.jit, static_argnames="level")
    def model(params: nnx.State, memory: Any, codes: jax.Array | None, cache: Any, level: int) -> tuple[jax.Array, Any]:
        return nnx.merge(graphdef, params).step(memory, codes, level, cache)

    start = jax.jit(lambda params, histories: nnx.merge(graphdef, params).start(histories))
    mask = jax.jit(lambda index, state, logits: index.score(state, *index.normalize(state, logits), None))
    top_k = jax.jit(lambda index, state, scores, k: index.choose(state, scores, None, k, None), static_argnums=3)
    reorder = jax.jit(beam_search.reorder)
    each = seconds / (4 * index.levels + 1)

    def timed(function: Callable, *arguments: Any, **named: Any) -> tuple[float, Any]:
        call = functools.partial(function, *arguments, **named)
        return in_turn({"": call}, each)[""], call()

    encoder, memory = timed(start, params, rows)
    parts: tuple[list[float], ...] = ([], [], [], [])
    state, codes, cache = index.start(len(rows.tokens)), None, None
    for level, size in enumerate(index.sizes):
        last = level + 1 == index.levels
        width = beams if last else min(beams, state.beams * size)
        taken, (logits, cache) = timed(model, params, memory, codes, cache, level=level)
        parts[0].append(taken)
        taken, scores = timed(mask, index, state, logits)
        parts[1].append(taken)
        taken, chosen = timed(top_k, index, state, scores, width)
        parts[2].append(taken)
        if not last:
            taken, cache = timed(reorder, cache, chosen.parents)
            parts[3].append(taken)
        state, codes = chosen.state, chosen.codes
    whole = in_turn({"": lambda: retriever(params, rows)}, each)[""]
    return Costs(encoder, *parts, whole)


def speeds(retriever: Retriever, params: nnx.State, rows: Histories, beams: Sequence[int], seconds: float) -> str:
    """Users a second at each width, measured in turn."""
    calls = {str(width): functools.partial(retriever, params, rows, beams=width) for width in beams}
    users = len(rows.tokens)
    return "\n".join(f"{name:>4} beams {users / taken:8.1f} users/s" for name, taken in in_turn(calls, seconds).items())


def of_trained(workdir: epath.PathLike, batch: int, beams: Sequence[int], seconds: float) -> str:
    """Users a second with the best checkpoint of a work directory, and what each level costs at the last width."""
    loaded = loaded_model.load(workdir)
    sequences = loaded.dataset.split("test")
    users = sequences.read(np.random.default_rng(0).permutation(len(sequences))[:batch])
    rows = loaded.histories([user.user_id for user in users], [user.items[:-1] for user in users])
    return _measure(loaded.graphdef, loaded.params, loaded.table, rows, beams, seconds)


def of_random(
    experiment: config.Experiment, items: int, sizes: Sequence[int], batch: int, beams: Sequence[int], seconds: float
) -> str:
    """The same with random weights, a random catalogue, and users with as many items as the model reads."""
    codes, random = random_codes(items, sizes), np.random.default_rng(1)
    record = run_record.RunRecord.of(experiment, tuple(sizes), "random", "random")
    graphdef, create = load.model_of(record)
    offsets = np.cumsum((0, *sizes[:-1])).astype(np.int32)
    tokenizer = Tokenizer(codes + offsets, sum(sizes), experiment.model.user_tokens)
    chosen = list(random.integers(0, items, (batch, record.max_history), np.int32))
    names = [f"u{number}" for number in range(batch)]
    rows = histories(names, chosen, tokenizer, record.max_history, causal=record.causal)
    return _measure(graphdef, jax.jit(create)(), SortedTable.build(codes, sizes), rows, beams, seconds)


def _measure(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    table: SortedTable,
    rows: Histories,
    beams: Sequence[int],
    seconds: float,
) -> str:
    retriever = Retriever(graphdef, LiveIndex(table, filters=0), beams[-1], min(beams))
    lines = [f"batch {len(rows.tokens)}", speeds(retriever, params, rows, beams, seconds), f"{beams[-1]} beams:"]
    return "\n".join([*lines, str(costs(retriever, params, rows, seconds))])
