"""Compares two evaluations of the same users: differences of all metrics, with confidence intervals and p-values.

    python tools/compare_runs.py --workdir=runs/narrow --other=runs/wide
    python tools/compare_runs.py --workdir=monday/test_users.parquet --other=tuesday/test_users.parquet --output=json

The test is the paired bootstrap over users (genrec/evaluation/significance.py). It covers the choice of users, not the
seed of the training: for that, compare several runs (launch/reproduce.py).
"""

import json

from absl import flags, logging

from genrec import command, printing, script_flags
from genrec.evaluation import evaluate, significance

_WORKDIR = script_flags.define_path("workdir", "Work directory, folder of an evaluation, or file.", required=True)
_OTHER = script_flags.define_path("other", "What to compare with: the same.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split whose evaluation is compared.")
_CUTOFFS = script_flags.define(
    "cutoffs", (1, 5, 10, 20, 50), "Cutoffs; the default up to the length of lists.", at_least=1, fewest=1
)
_SAMPLES = flags.DEFINE_integer("samples", significance.SAMPLES, "Number of bootstrap samples.", lower_bound=1)
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "A table, or a line of JSON.")


def main() -> None:
    files = [significance.users_file(path, _SPLIT.value) for path in (_WORKDIR.value, _OTHER.value)]
    first, second = significance.ranks_of_same_users(*files)
    given = _CUTOFFS.value if _CUTOFFS.present else None
    cutoffs = significance.shown_cutoffs(given, min(map(significance.list_length, files)))
    compared = significance.paired_bootstrap(first, second, cutoffs, _SAMPLES.value)
    rules = [significance.history_rule(file) for file in files]
    if all(rules) and rules[0] != rules[1]:
        logging.warning("the first has its %s, the second %s: that alone makes a difference", *rules)
    names = [
        f"{path} ({rule})" if rule else path for path, rule in zip((_WORKDIR.value, _OTHER.value), rules, strict=True)
    ]
    if _OUTPUT.value == "json":
        printing.show(json.dumps({name: one._asdict() for name, one in compared.items()}))
    else:
        printing.show(significance.table(compared, (names[0], names[1]), len(first)))


if __name__ == "__main__":
    command.run(main)
