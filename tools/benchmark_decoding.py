"""Measures decoding: the overhead of the catalogue's constraints, or the users per second of a model, level by level.

    python tools/benchmark_decoding.py --items=1000000 --levels=8 --codes=2048 --batch=32 --beams=20
    python tools/benchmark_decoding.py --config=configs/amazon_beauty.py:paper --beams=20
    python tools/benchmark_decoding.py --workdir=/tmp/quickstart --batch=256 --beams=10,20,50

The first command searches with precomputed logits; the second with random weights and items; the third with the best
checkpoint and users of the test split. Timings depend on the machine and its load: compare ratios within one run.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.decoding import benchmark

_CONFIG = script_flags.define_config(required=False)
_WORKDIR = script_flags.define_path("workdir", "Work directory with a trained model.")
_ITEMS = flags.DEFINE_integer("items", 12_000, "Items of the random catalogue.", lower_bound=1000)
_LEVELS = flags.DEFINE_integer("levels", 4, "Levels of its semantic IDs.", lower_bound=1)
_CODES = flags.DEFINE_integer("codes", 256, "Codes per level.", lower_bound=2)
_BATCH = flags.DEFINE_integer("batch", 32, "Users per batch.", lower_bound=1)
_BEAMS = script_flags.define("beams", (20,), "Beam widths, separated by commas.", at_least=1, fewest=1)
_SECONDS = script_flags.define("seconds", 10.0, "Seconds per measurement.", above=0)
_INDEX = flags.DEFINE_bool("index", False, "Also time each step of building the index of the random catalogue.")


def main() -> None:
    sizes, beams = (_CODES.value,) * _LEVELS.value, list(_BEAMS.value)
    if _WORKDIR.value:
        printing.show(benchmark.of_trained(_WORKDIR.value, _BATCH.value, beams, _SECONDS.value))
    elif _CONFIG.is_given:
        printing.show(benchmark.of_random(_CONFIG.value, _ITEMS.value, sizes, _BATCH.value, beams, _SECONDS.value))
    else:
        for width in beams:
            printing.show(benchmark.constraint_overhead(_ITEMS.value, sizes, _BATCH.value, width, _SECONDS.value))
        if _INDEX.value:
            printing.show(benchmark.index_costs(_ITEMS.value, sizes))


if __name__ == "__main__":
    command.run(main)
