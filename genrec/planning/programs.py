"""The compiled programs of a run, lowered for any devices from the settings alone: no dataset, no array is needed.

Users have full histories and random items. Prompts and the context, whose sizes are learned from data, are left out.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from genrec import sharding
from genrec.config import Experiment
from genrec.data.dataset import Sequence as UserSequence
from genrec.data.dataset import Sequences
from genrec.decoding import benchmark, retrieval
from genrec.decoding import search as searching
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Tokenizer, histories
from genrec.input_pipeline.training_batches import TrainingBatches
from genrec.models import flops, load
from genrec.models.run_record import RunRecord
from genrec.semantic_ids import residual_kmeans
from genrec.training import optimizer, step

STATE = {"parameters": "params", "optimizer": "optimizer", "average": "ema"}


class Program(NamedTuple):
    """A program to compile."""

    name: str
    lowered: jax.stages.Lowered
    memory: dict[str, int]  # bytes of its inputs on one device, by what they are
    unit: str  # what a run processes
    units: float  # how many of them
    flops: float  # operations that the model needs, in matrix products; 0 where they are not counted


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Sizes of the catalogue."""

    items: int
    sizes: tuple[int, ...]  # codes per level

    @staticmethod
    def of(experiment: Experiment, items: int, levels: int, codes: int) -> "Catalogue":
        """Returns the sizes given; levels and codes of 0 are those of the settings, with a full collision level."""
        learned = experiment.semantic_ids
        sizes = (*learned.codes, learned.max_group)
        if levels or codes:
            sizes = (codes or max(learned.codes),) * (levels or len(sizes))
        return Catalogue(items, sizes)


class _FullHistories(Sequences):
    def __init__(self, users: int, items: int, catalogue: int):
        self.lengths, self._catalogue = np.full(users, items), catalogue

    def read(self, indices: Iterable[int]) -> list[UserSequence]:
        random, length = np.random.default_rng(0), int(self.lengths[0])
        drawn = ((f"u{index}", random.integers(0, self._catalogue, length, np.int32)) for index in indices)
        return [UserSequence(user, items, np.arange(length)) for user, items in drawn]


def training_step(experiment: Experiment, catalogue: Catalogue, mesh: Mesh) -> Program:
    """Returns the training step; raises ConfigError for a mesh that does not suit the model."""
    cfg, sizes = experiment.training, catalogue.sizes
    record = RunRecord.of(experiment, sizes, "random", "random")
    tx = optimizer.make(cfg, experiment.model.parameters)
    run = step.describe(record, tx, mesh)
    batches = TrainingBatches(
        _FullHistories(max(64, 2 * cfg.batch_targets), cfg.max_history + 1, catalogue.items),
        _tokenizer(experiment, catalogue),
        cfg,
        experiment.seed,
        rows_multiple=cfg.accumulate * sharding.parts(mesh, "batch"),
    )
    row = batches.batch(0, slice(0, 1))
    if experiment.model.transition_bias:
        shares = tuple(np.zeros((1, batches.packing.row_targets, size), np.float32) for size in sizes)
        row = row._replace(log_shares=shares)
    examples = _rows_like(row, batches.padded_rows, mesh)
    with jax.set_mesh(mesh):
        lowered = jax.jit(step.make_step(run, tx, experiment)).lower(run.abstract, examples)
    memory = {part: _bytes(run.abstract[name]) for part, name in STATE.items()} | {"batch": _bytes(examples)}
    tokens = int((row.histories.segments > 0).sum()) * batches.rows
    needed = flops.training_step(
        experiment.model, sizes, tokens, batches.targets_per_step, row.histories.tokens.shape[1]
    )
    return Program("training step", lowered, memory, "targets", batches.targets_per_step, needed)


def search(experiment: Experiment, catalogue: Catalogue, mesh: Mesh) -> Program:
    """Returns the beam search of validation and evaluation, over a random catalogue."""
    cfg = experiment.evaluation
    record = RunRecord.of(experiment, catalogue.sizes, "random", "random")
    structure = load.model_of(record)
    params = sharding.with_shardings(jax.eval_shape(load.averaged, structure.abstract), mesh)
    table = SortedTable.build(benchmark.random_codes(catalogue.items, catalogue.sizes), catalogue.sizes)
    index = jax.tree.map(functools.partial(_like, sharded=sharding.named(mesh)), LiveIndex(table, filters=0).index)
    history = np.zeros(record.max_history, np.int32)
    row = histories(["u"], [history], _tokenizer(experiment, catalogue), record.max_history, causal=record.causal)
    inputs = retrieval.Inputs(row, None, None, None, None)
    if experiment.model.transition_bias:
        inputs = inputs._replace(transitions=np.zeros((1, len(index.items) + 1), np.uint32))
    parts = sharding.parts(mesh, "batch")
    users = -(-cfg.batch // parts) * parts
    rows = _rows_like(inputs, users, mesh)
    with jax.set_mesh(mesh):
        lowered = searching.search_function(structure.graphdef, mesh, cfg.beams).lower(
            params, index, None, rows, cfg.beams
        )
    memory = {"parameters": _bytes(params), "catalogue": _bytes(index), "batch": _bytes(rows)}
    return Program("search", lowered, memory, "users", users, 0)


def learning_of_codes(experiment: Experiment, catalogue: Catalogue, mesh: Mesh, width: int = 0) -> list[Program]:
    """Returns the programs of k-means at the largest level, for embeddings of a width.

    By default that of TF-IDF and co-occurrence in the settings.
    """
    cfg, learned = experiment.embeddings, experiment.semantic_ids
    size = width or cfg.width + (cfg.cooccurrence_width if cfg.cooccurrence_weight > 0 else 0)
    lowered = residual_kmeans.lower(catalogue.items, size, max(learned.codes), mesh)
    return [
        Program(name, one, {"embeddings": 4 * size * catalogue.items // mesh.size}, "items", catalogue.items, 0)
        for name, one in lowered.items()
    ]


def _tokenizer(experiment: Experiment, catalogue: Catalogue) -> Tokenizer:
    codes = benchmark.random_codes(min(catalogue.items, 1000), catalogue.sizes)
    items = codes[np.arange(catalogue.items) % len(codes)] + np.cumsum((0, *catalogue.sizes[:-1])).astype(np.int32)
    return Tokenizer(items, sum(catalogue.sizes), experiment.model.user_tokens)


def _like(x: Any, sharded: jax.sharding.Sharding, rows: int | None = None) -> jax.ShapeDtypeStruct:
    shape = x.shape if rows is None else (rows, *x.shape[1:])
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharded)


def _rows_like(row: Any, rows: int, mesh: Mesh) -> Any:
    """Returns a tree of abstract arrays like those of one row, with `rows` rows sharded over the mesh."""
    return jax.tree.map(functools.partial(_like, sharded=sharding.named(mesh, "batch"), rows=rows), row)


def _bytes(tree: Any) -> int:
    """Returns the bytes of a tree of abstract arrays on one device, without padding."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )
