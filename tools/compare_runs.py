"""Compares two evaluations of the same users: differences of all metrics, with confidence intervals and p-values.

    python tools/compare_runs.py --workdir=runs/narrow --other=runs/wide
    python tools/compare_runs.py --workdir=monday/test_users.parquet --other=tuesday/test_users.parquet --output=json

Uses the paired bootstrap over users (genrec/evaluation/significance.py), which accounts for the choice of users, not of
the training seed: for that, compare several runs.
"""

import json

from absl import flags

from genrec import command
from genrec.evaluation import evaluate, significance

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory, or a file of users' ranks.", required=True)
_OTHER = flags.DEFINE_string("other", None, "Work directory or file to compare with.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split of the evaluation in a work directory.")
_CUTOFFS = flags.DEFINE_list("cutoffs", ["1", "5", "10", "20", "50"], "Cutoffs, at most the length of the lists.")
_SAMPLES = flags.DEFINE_integer("samples", significance.SAMPLES, "Number of bootstrap samples.", lower_bound=1)
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "Format: a table, or a line of JSON.")


def main() -> None:
    first, second = (significance.users_file(path, _SPLIT.value) for path in (_WORKDIR.value, _OTHER.value))
    first_ranks, second_ranks = significance.ranks_of_same_users(first, second)
    cutoffs = [int(cutoff) for cutoff in _CUTOFFS.value]
    compared = significance.paired_bootstrap(first_ranks, second_ranks, cutoffs, _SAMPLES.value)
    if _OUTPUT.value == "json":
        print(json.dumps({name: one._asdict() for name, one in compared.items()}))
    else:
        print(significance.table(compared, (_WORKDIR.value, _OTHER.value), len(first_ranks)))


if __name__ == "__main__":
    command.run(main)
