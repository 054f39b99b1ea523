"""Writes the report of an evaluation: one self-contained HTML file of metrics, curves, segments, codes and examples.

    python tools/report.py --workdir=runs/quickstart
    python tools/report.py --workdir=runs/quickstart --split=validation

Evaluate first (tools/evaluate_checkpoint.py). The report is WORKDIR/evaluation/SPLIT.html, or in --folder.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.evaluation import evaluate, report

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split whose evaluation is shown.")
_FOLDER = flags.DEFINE_string("folder", None, "Folder of the evaluation, if not WORKDIR/evaluation.")


def main() -> None:
    printing.show(report.write(_WORKDIR.value, _SPLIT.value, _FOLDER.value))


if __name__ == "__main__":
    command.run(main)
