"""Measures training at a config's model size: targets per second, on random histories of equal length.

    python tools/benchmark_training.py --config=configs/amazon_beauty.py:paper --config.training.targets=every

The first steps are not timed. Timings depend on the machine and its load: compare ratios.
"""

import genrec.host_memory  # noqa: F401, I001 (first: it holds for the threads that the other imports start)
from collections.abc import Iterable

import jax
import numpy as np
from absl import flags

from genrec import command, printing, script_flags, sharding
from genrec.data.dataset import Sequence, Sequences
from genrec.input_pipeline.training_batches import TrainingBatches
from genrec.models import run_record
from genrec.semantic_ids.codes import SemanticIds
from genrec.training import optimizer, step
from genrec.training.throughput import ThroughputMeter

_CONFIG = script_flags.define_config()
_ITEMS = flags.DEFINE_integer("items", 21, "Items per user, the last target included.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 8, "Number of steps to time.", lower_bound=1)
WARMUP = 2  # steps, which compile


class _RandomUsers(Sequences):
    def __init__(self):
        self.lengths = np.full(4096, _ITEMS.value)

    def read(self, indices: Iterable[int]) -> list[Sequence]:
        random = np.random.default_rng(0)
        histories = ((f"u{index}", random.integers(0, 10_000, _ITEMS.value, np.int32)) for index in indices)
        return [Sequence(user, items, items) for user, items in histories]


def main() -> None:
    cfg, mesh, items = _CONFIG.value, sharding.make_mesh(_CONFIG.value.mesh), np.arange(10_000)
    semantic_ids = SemanticIds(np.stack([items % 256, items // 256, items % 7, items % 3], axis=1), (256,) * 4)
    record = run_record.RunRecord.of(cfg, semantic_ids.sizes, "random", "random")
    parts, tokenizer = cfg.training.accumulate * sharding.parts(mesh, "batch"), record.tokenizer(semantic_ids)
    batches = TrainingBatches(_RandomUsers(), tokenizer, cfg.training, 0, rows_multiple=parts)
    tx, window = optimizer.make(cfg.training, cfg.model.parameters), []
    run, speed = step.describe(record, tx, mesh), ThroughputMeter(cfg, (256,) * 4, batches.packing.row_tokens, mesh)
    step_fn, state = step.make_step(run, tx, cfg), step.start(run)
    with jax.set_mesh(mesh):
        for number, examples in enumerate(batches.iterate(0, WARMUP + _STEPS.value)):
            if number == WARMUP and jax.block_until_ready(state):
                speed.restart()
            state, metrics = step_fn(state, sharding.put_rows(mesh, examples, batches.padded_rows))
            window.append(metrics)
    printing.show(f"parameters {sum(leaf.size for leaf in jax.tree.leaves(state['params']))}")
    printing.show("\n".join(f"{n} {v:.5g}" for n, v in speed.measure(jax.device_get(window[WARMUP:])).items()))


if __name__ == "__main__":
    command.run(main)
