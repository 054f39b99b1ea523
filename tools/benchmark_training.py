"""Training speed at a config's model size: targets per second, on users with random histories of equal length.

    python tools/benchmark_training.py --config=configs/amazon_beauty.py:paper --config.training.targets=every \
        --config.training.batch_targets=1024 --config.training.row_targets=21

Prints figures of the steps after the first ones, which compile. Machines differ and are shared: compare ratios.
"""

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from genrec import command, sharding
from genrec.data.dataset import Sequence
from genrec.input_pipeline.training_batches import TrainingBatches
from genrec.models import run_record
from genrec.semantic_ids.codes import SemanticIds
from genrec.training import optimizer
from genrec.training import step as training_step
from genrec.training.throughput import ThroughputMeter

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_ITEMS = flags.DEFINE_integer("items", 21, "Items of a user, the last target included.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 8, "Steps to time.", lower_bound=1)
COMPILING_STEPS = 2


class _RandomUsers:
    lengths = property(lambda self: np.full(4096, _ITEMS.value))

    def read(self, indices: np.ndarray) -> list[Sequence]:
        histories = np.random.default_rng(0).integers(0, 10_000, (len(indices), _ITEMS.value), np.int32)
        return [Sequence(f"u{index}", items, items) for index, items in zip(indices, histories, strict=True)]


def main() -> None:
    experiment, mesh = _CONFIG.value, sharding.make_mesh(_CONFIG.value.mesh)
    number = np.arange(10_000)
    semantic_ids = SemanticIds(np.stack([number % 256, number // 256, number % 7, number % 3], axis=1), (256,) * 4)
    record = run_record.RunRecord.of(experiment, semantic_ids.sizes, "random", "random")
    parts = experiment.training.accumulate * sharding.parts(mesh, "batch")
    batches = TrainingBatches(
        _RandomUsers(), record.tokenizer(semantic_ids), experiment.training, 0, rows_multiple=parts
    )
    tx = optimizer.make(experiment.training, experiment.model.parameters)
    run = training_step.describe(record, tx, mesh)
    step_fn, state, window = training_step.make_step(run, tx, experiment), training_step.start(run), []
    speed = ThroughputMeter(experiment, semantic_ids.sizes, batches.packing.row_tokens, mesh)
    with jax.set_mesh(mesh):
        for step, examples in enumerate(batches.iterate(0, COMPILING_STEPS + _STEPS.value)):
            if step == COMPILING_STEPS and jax.block_until_ready(state):
                speed.restart()
            state, metrics = step_fn(state, sharding.put_rows(mesh, examples, batches.padded_rows))
            window.append(metrics)
        print(f"parameters {sum(leaf.size for leaf in jax.tree.leaves(state['params']))}")
        figures = speed.measure(jax.device_get(window[COMPILING_STEPS:]))
        print("\n".join(f"{name} {value:.5g}" for name, value in figures.items()))


if __name__ == "__main__":
    command.run(main)
