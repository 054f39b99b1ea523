"""Compares two evaluations of the same users: differences of all metrics, with intervals and p-values.

    python tools/compare_runs.py --workdir=runs/narrow --other=runs/wide
    python tools/compare_runs.py --workdir=monday/test_users.parquet --other=tuesday/test_users.parquet --output=json

By the paired bootstrap over users (genrec/evaluation/significance.py). It says whether the difference would hold for
other users; whether it would for other seeds of the training, only several runs say.
"""

import json

from absl import flags

from genrec import command
from genrec.evaluation import evaluate, significance

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder with the stages' results, or a file of users' ranks.", required=True
)
_OTHER = flags.DEFINE_string("other", None, "What to compare it with: likewise.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Which evaluation of a folder.")
_CUTOFFS = flags.DEFINE_list("cutoffs", ["1", "5", "10", "20", "50"], "List lengths; no longer than the lists were.")
_SAMPLES = flags.DEFINE_integer("samples", significance.SAMPLES, "Test sets to draw.", lower_bound=1)
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "A table for people, or a line of JSON.")


def main() -> None:
    files = [significance.users_file(path, _SPLIT.value) for path in (_WORKDIR.value, _OTHER.value)]
    ranks = significance.ranks_of_same_users(*files)
    compared = significance.paired_bootstrap(*ranks, [int(cutoff) for cutoff in _CUTOFFS.value], _SAMPLES.value)
    if _OUTPUT.value == "json":
        print(json.dumps({name: one._asdict() for name, one in compared.items()}))
    else:
        print(significance.table(compared, (_WORKDIR.value, _OTHER.value), len(ranks[0])))


if __name__ == "__main__":
    command.run(main)
