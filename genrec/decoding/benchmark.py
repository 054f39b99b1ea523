"""Benchmarks of decoding: constrained against unconstrained search, index construction, and the levels of a model."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from flax import nnx

from genrec import config, tables
from genrec.data.filters import Filter
from genrec.decoding import beam_search, loaded_model
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, MaybeConstraints
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories, Tokenizer, histories
from genrec.models import load, run_record

ELIGIBLE = 0.3  # share of the items that pass the filter
EXCLUDED = 50  # items excluded per row
CHANGED = 1000  # items that are added, and removed
ZIPF = 1.1  # exponent with which half of the items lie under one in a hundred of 2,048 prefixes


def random_codes(items: int, sizes: Sequence[int], seed: int = 0) -> np.ndarray:
    """Draws codes uint16[items, levels], uniform within each level."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(0, size, items, np.uint16) for size in sizes], axis=1)


def skewed_codes(items: int, sizes: Sequence[int], seed: int = 0) -> np.ndarray:
    """Draws codes uint16[items, levels] that pile up: Zipf-distributed at all levels but the last, which is uniform."""
    random, columns = np.random.default_rng(seed), []
    for size in sizes[:-1]:
        shares = np.arange(1, size + 1) ** -ZIPF
        columns.append(random.permutation(size)[random.choice(size, items, p=shares / shares.sum())].astype(np.uint16))
    return np.stack([*columns, random.integers(0, sizes[-1], items, np.uint16)], axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unconstrained(CatalogueIndex):
    """Index in which every sequence of codes exists: the baseline cost of a beam search."""

    def score(self, state: BeamState, base: jax.Array, logits: jax.Array, constraints: MaybeConstraints) -> jax.Array:
        return base[..., None] + logits

    @property
    def tables(self) -> int:
        return self.levels

    def _descend(self, state: BeamState, parents: jax.Array, places: jax.Array) -> tuple[jax.Array, ...]:
        return places, parents, parents, parents


def interleaved_medians(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Returns the median seconds of each call: all are called once to compile, then in turn for `seconds` in total."""
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


def constraint_overhead(items: int, sizes: Sequence[int], batch: int, beams: int, seconds: float) -> str:
    """Measures a search without constraints, with those of the catalogue, with a filter, and with excluded items.

    The catalogue has uniform codes; another one of as many items has codes that pile up under few prefixes, and is
    searched with random logits too, and with logits that lead to its largest ranges.

    The decoder returns given logits, so that only the search takes time.
    """
    random = np.random.default_rng(1)
    table = SortedTable.build(random_codes(items, sizes), sizes)
    live = LiveIndex(table, filters=1)
    skewed = LiveIndex(SortedTable.build(skewed_codes(items, sizes), sizes), filters=1)
    eligible = frozenset(random.choice(items, int(items * ELIGIBLE), replace=False).tolist())
    seen = [random.choice(items, EXCLUDED, replace=False) for _ in range(batch)]
    filtered = live.constraints([Restriction(Filter(allow=eligible))] * batch)
    excluding = live.constraints([Restriction(exclude=some) for some in seen])
    plain = Unconstrained.of(live.index)
    random_logits = [random.normal(0, 3, (batch, beams, size)).astype(np.float32) for size in sizes]
    # Close to the shares of the skewed codes, so that beams are the largest ranges.
    shares = [np.bincount(column, minlength=size) + 1 for column, size in zip(skewed.table.codes.T, sizes, strict=True)]
    likely = [(np.log(of) + random.normal(0, 1, (batch, beams, len(of)))).astype(np.float32) for of in shares]

    @jax.jit
    def search(index: CatalogueIndex, logits: list[jax.Array], constraints: MaybeConstraints) -> RankedItems[jax.Array]:
        def step(codes: jax.Array | None, level: int, cache: None) -> tuple[jax.Array, None]:
            return logits[level][:, : 1 if codes is None else codes.shape[1]], None

        return beam_search.beam_search(step, index, batch, beams, constraints=constraints)

    logits, likely, filtered, excluding = jax.device_put((random_logits, likely, filtered, excluding))
    taken = interleaved_medians(
        {
            "unconstrained": functools.partial(search, plain, logits, None),
            "catalogue": functools.partial(search, live.index, logits, None),
            f"filter of {ELIGIBLE:.0%}": functools.partial(search, live.index, logits, filtered),
            "skewed catalogue": functools.partial(search, skewed.index, logits, None),
            "its largest ranges": functools.partial(search, skewed.index, likely, None),
            f"{EXCLUDED} seen": functools.partial(search, live.index, logits, excluding),
        },
        seconds,
    )
    baseline, catalogue = taken["unconstrained"], taken["catalogue"]
    rows = [[name, median * 1e3, median / baseline, median / catalogue] for name, median in taken.items()]
    header = ["", "ms", "of unconstrained", "of catalogue"]
    title = f"{items:,} items, {len(sizes)} levels of {sizes[0]}, batch x beam {batch} x {beams}"
    return f"{title}\n{tables.text(rows, header, floats='.2f')}"


def index_costs(items: int, sizes: Sequence[int]) -> str:
    """Measures the seconds to build and to change an index, and its bytes."""
    codes = random_codes(items, sizes)
    seconds: list[tuple[str, str]] = []
    some = Filter(allow=frozenset(range(0, items, 3)))
    new, new_codes = np.arange(items, items + CHANGED), random_codes(CHANGED, sizes, seed=1)

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds.append((name, f"{time.perf_counter() - start:.2f} s"))

    with timed("sort"):
        table = SortedTable.build(codes, sizes)
    with timed("arrays of the sorted table, on the device"):
        live = LiveIndex(table, filters=0)
        jax.block_until_ready(live.index)
    parts = {name: getattr(live.index, name) for name in ("starts", "columns", "runs", "items", "filters")}
    sizes_of = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(part)) / 1e6 for name, part in parts.items()}
    live_filters = LiveIndex(table, filters=1)
    with timed("a filter"):
        live_filters.constraints([Restriction(some)])
        jax.block_until_ready(live_filters.index)
    with timed(f"add {CHANGED} items, remove {CHANGED}"):
        live.update(new, new_codes, np.arange(CHANGED))
        jax.block_until_ready(live.index)
    shares = ", ".join(f"{name} {size:.1f}" for name, size in sizes_of.items())
    size = f"{sum(sizes_of.values()):.1f} MB ({shares}); layout {live.index.layout}"
    return f"{tables.text(seconds)}\n{size}"


class LevelCosts(NamedTuple):
    """Seconds of the parts of a search, per level except for the encoder and the whole."""

    encoder: float
    model: list[float]  # logits of a level, with the log-shares of the transitions if it has a bias by them
    mask: list[float]  # their normalizer, and the existing children
    top_k: list[float]  # the best children and their ranges
    reorder: list[float]  # of the cache, at all levels but the last
    whole: float  # the search in one compiled function

    def __str__(self) -> str:
        parts = np.array([self.model, self.mask, self.top_k, [*self.reorder, 0.0]]) * 1e3
        rows = [[str(level), *of] for level, of in enumerate(parts.T.tolist())]
        rows.append(["all", *parts.sum(axis=1).tolist()])
        table = tables.text(rows, ["level, ms", "model", "mask", "top-k", "reorder"], floats=".2f")
        one_by_one = self.encoder * 1e3 + parts.sum()
        return (
            f"{table}\n"
            f"encoder {self.encoder * 1e3:.2f} ms; one by one {one_by_one:.2f} ms; whole {self.whole * 1e3:.2f}"
        )


def level_costs(retriever: Retriever, params: nnx.State, rows: Histories, seconds: float) -> LevelCosts:
    """Measures each part of a search at each level, in a compiled function of its own.

    The whole may take less than the sum of its parts, because XLA fuses some of their loops.
    """
    graphdef, index, beams = retriever.graphdef, retriever.live.index, retriever.beams
    transitions = (
        None if rows.transitions is None else jax.numpy.asarray(retriever.live.cumulated(np.asarray(rows.transitions)))
    )

    @functools.partial(jax.jit, static_argnames="level")
    def model(
        params: nnx.State, memory: Any, state: BeamState, codes: jax.Array | None, cache: Any, level: int
    ) -> tuple[jax.Array, Any]:
        shares = None if transitions is None else index.log_shares(state, transitions)
        return nnx.merge(graphdef, params).step(memory, codes, level, cache, shares)

    start = jax.jit(lambda params, histories: nnx.merge(graphdef, params).start(histories))
    reorder = jax.jit(beam_search.reorder_cache)
    choose = jax.jit(lambda index, state, scores, k: index.choose(state, scores, None, k, None), static_argnums=3)

    @jax.jit
    def mask(index: CatalogueIndex, state: BeamState, logits: jax.Array) -> jax.Array:
        base, logits = index.normalize(state, logits)
        return index.score(state, base, logits, None)

    each = seconds / (4 * index.levels + 1)

    def timed(function: Callable, *arguments: Any, **named: Any) -> tuple[float, Any]:
        call = functools.partial(function, *arguments, **named)
        return interleaved_medians({"": call}, each)[""], call()

    encoder, memory = timed(start, params, rows._replace(transitions=None))
    found = LevelCosts(encoder, [], [], [], [], interleaved_medians({"": lambda: retriever(params, rows)}, each)[""])
    state, codes, cache = index.start(len(rows.tokens)), None, None
    for level, size in enumerate(index.sizes):
        last = level + 1 == index.levels
        width = beams if last else min(beams, state.beams * size)
        taken, (logits, cache) = timed(model, params, memory, state, codes, cache, level=level)
        found.model.append(taken)
        taken, scores = timed(mask, index, state, logits)
        found.mask.append(taken)
        taken, chosen = timed(choose, index, state, scores, width)
        found.top_k.append(taken)
        if not last:
            taken, cache = timed(reorder, cache, chosen.parents)
            found.reorder.append(taken)
        state, codes = chosen.state, chosen.codes
    return found


def throughput(retriever: Retriever, params: nnx.State, rows: Histories, beams: Sequence[int], seconds: float) -> str:
    """Measures users per second at each width, in turn."""
    calls = {str(width): functools.partial(retriever, params, rows, beams=width) for width in beams}
    users = len(rows.tokens)
    measured = [[name, users / taken] for name, taken in interleaved_medians(calls, seconds).items()]
    return tables.text(measured, ["beams", "users/s"], floats=".1f", align="r")


def of_trained(workdir: epath.PathLike, batch: int, beams: Sequence[int], seconds: float) -> str:
    """Measures users per second of the best checkpoint of a work directory, and each level at the last width."""
    loaded = loaded_model.load(workdir)
    sequences = loaded.dataset.split("test")
    users = sequences.read(np.random.default_rng(0).permutation(len(sequences))[:batch])
    rows = loaded.histories([user.user_id for user in users], [user.items[:-1] for user in users])
    return _measure(loaded.graphdef, loaded.params, loaded.table, rows, beams, seconds)


def of_random(
    experiment: config.Experiment, items: int, sizes: Sequence[int], batch: int, beams: Sequence[int], seconds: float
) -> str:
    """Measures the same with random weights, a random catalogue, and users with full histories, without transitions."""
    experiment = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, transition_bias=False))
    codes, random = random_codes(items, sizes), np.random.default_rng(1)
    record = run_record.RunRecord.of(experiment, tuple(sizes), "random", "random")
    structure = load.model_of(record)
    offsets = np.cumsum((0, *sizes[:-1])).astype(np.int32)
    tokenizer = Tokenizer(codes + offsets, sum(sizes), experiment.model.user_tokens)
    chosen = list(random.integers(0, items, (batch, record.max_history), np.int32))
    names = [f"u{number}" for number in range(batch)]
    rows = histories(names, chosen, tokenizer, record.max_history, causal=record.causal)
    params = jax.jit(structure.initialize)()
    return _measure(structure.graphdef, params, SortedTable.build(codes, sizes), rows, beams, seconds)


def _measure(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    table: SortedTable,
    rows: Histories,
    beams: Sequence[int],
    seconds: float,
) -> str:
    retriever = Retriever(graphdef, LiveIndex(table, filters=0), beams[-1], min(beams))
    lines = [f"batch {len(rows.tokens)}", throughput(retriever, params, rows, beams, seconds), f"{beams[-1]} beams:"]
    return "\n".join([*lines, str(level_costs(retriever, params, rows, seconds))])
