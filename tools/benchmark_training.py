"""Training speed at a config's model size: targets per second, on users with random histories of equal length.

    python tools/benchmark_training.py --config=configs/amazon_beauty.py:paper --config.training.targets=every \
        --config.training.batch_targets=1024 --config.training.row_targets=21

Prints the median of some steps after the first, which compiles. Machines differ and are shared: compare ratios of one
run.
"""

import statistics
import time

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from genrec import command, sharding
from genrec.data.dataset import Sequence
from genrec.data.pipeline import TrainingBatches
from genrec.models import saved
from genrec.semantic_ids.codes import SemanticIds
from genrec.training import loop, optimizer

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_ITEMS = flags.DEFINE_integer("items", 21, "Items of a user, the last target included.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 8, "Steps to time.", lower_bound=1)


class _RandomUsers:
    lengths = property(lambda self: np.full(4096, _ITEMS.value))

    def read(self, indices: np.ndarray) -> list[Sequence]:
        histories = np.random.default_rng(0).integers(0, 10_000, (len(indices), _ITEMS.value), np.int32)
        return [Sequence(f"u{index}", items, items) for index, items in zip(indices, histories, strict=True)]


def main() -> None:
    experiment = _CONFIG.value
    number = np.arange(10_000)
    semantic_ids = SemanticIds(np.stack([number % 256, number // 256, number % 7, number % 3], axis=1), (256,) * 4)
    record = saved.Record.of(experiment, semantic_ids.sizes, "random", "random")
    batches = TrainingBatches(_RandomUsers(), record.tokens(semantic_ids), experiment.training, experiment.seed)
    tx = optimizer.make(experiment.training)
    mesh = sharding.make_mesh(experiment.mesh)
    run = loop.describe(record, tx, mesh)
    state = jax.jit(run.initialise, out_shardings=sharding.of(run.abstract))()
    step_fn = loop.make_step(run, tx, experiment)
    seconds = []
    with jax.set_mesh(mesh):
        for examples in batches.iterate(0, _STEPS.value + 1):
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(step_fn(state, sharding.put_rows(mesh, examples, batches.rows)))
            seconds.append(time.perf_counter() - start)
    targets = int(metrics["targets"])
    print(f"parameters {sum(leaf.size for leaf in jax.tree.leaves(state['params']))}")
    print(f"{targets} targets a step; the first step took {seconds[0]:.1f} s, with compilation")
    print(f"train: {targets / statistics.median(seconds[1:]):.1f} targets/s")


if __name__ == "__main__":
    command.run(main)
