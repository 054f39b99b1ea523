"""Measures the input pipeline alone, on the dataset and semantic IDs of a work directory.

    python tools/benchmark_input.py --config=configs/amazon_beauty.py --workdir=runs/beauty
    python tools/benchmark_input.py --config=configs/amazon_beauty.py --workdir=runs/beauty --memory_mib=0 --shares=8

Times planning without and with reading all items into memory, then steps: plain calls of `batch`, and `iterate`, which
prefetches in a thread. Of several processes one is measured, which builds its share of the rows.
"""

import time
from collections.abc import Iterator

import jax
from absl import flags
from etils import epath

from genrec import command, script_flags
from genrec.data import dataset
from genrec.input_pipeline import training_batches
from genrec.input_pipeline.examples import Examples
from genrec.models import run_record
from genrec.printing import show
from genrec.semantic_ids.codes import SemanticIds

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_STEPS = flags.DEFINE_integer("steps", 1000, "Number of steps to time.", lower_bound=1)
_MEMORY = script_flags.define("memory_mib", training_batches.MEMORY >> 20, "For items; 0: none.", at_least=0)
_SHARES = flags.DEFINE_integer("shares", 1, "Number of processes that share a batch.", lower_bound=1)


def _measure(name: str, batches: Iterator[Examples]) -> None:
    next(batches)  # the first opens files and makes the epoch's permutation
    start, segments, targets, size = time.perf_counter(), 0, 0, 0
    for examples in batches:
        segments += int(examples.histories.segments.max(axis=1).sum())
        targets += int((examples.target_segments > 0).sum())
        size += sum(array.nbytes for array in jax.tree.leaves(examples))
    rate = 1 / (time.perf_counter() - start)
    show(f"{name}: {segments * rate:.0f} segments/s, {targets * rate:.0f} targets/s, {size * rate / 1e6:.0f} MB/s")


def main() -> None:
    experiment, workdir = _CONFIG.value, epath.Path(_WORKDIR.value)
    semantic_ids = SemanticIds.load(workdir / "semantic_ids")
    tokenizer = run_record.RunRecord.of(experiment, semantic_ids.sizes, "", "").tokenizer(semantic_ids)
    sequences = dataset.Dataset(workdir / "dataset").split("train")
    for memory in (0, _MEMORY.value << 20):  # planning alone, then with reading
        start, cfg, seed = time.perf_counter(), experiment.training, experiment.seed
        batches = training_batches.TrainingBatches(sequences, tokenizer, cfg, seed, _SHARES.value, memory)
        show(f"{time.perf_counter() - start:.2f} s to start with {memory >> 20} MiB, {len(batches.segments)} segments")
    rows = slice(batches.padded_rows // _SHARES.value)
    _measure("batch", (batches.batch(step, rows) for step in range(_STEPS.value + 1)))
    _measure("iterate", batches.iterate(0, _STEPS.value + 1, rows))


if __name__ == "__main__":
    command.run(main)
