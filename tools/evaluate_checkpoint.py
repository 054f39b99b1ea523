"""Evaluates checkpoints on all users of a split: metrics with baselines, by segment, and the rank of every target.

    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart \
        --split=validation,test --checkpoint=latest --config.evaluation.beams=20
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart --checkpoint=all
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart --watch

The results of one checkpoint are in WORKDIR/evaluation. With --checkpoint=all and --watch they are in
WORKDIR/evaluation/step_STEP, with a table of all steps; a checkpoint that has results is not evaluated again. Variants,
such as --config.evaluation.history=0, are in folders of their own, WORKDIR/evaluation/history=0.
Checkpoints may be in another folder (--checkpoints_of): in a bucket, or in a run on a smaller catalogue. So may results
(--results_in), such as those without the items of the history: --config.evaluation.exclude_history=True.
"""

import math

from absl import flags

from genrec import command, script_flags
from genrec.evaluation import evaluate, evaluate_all

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_SPLIT = flags.DEFINE_list("split", ["test"], "Split to evaluate: validation, test, or both.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Checkpoint: best (by validation metric), latest, a step, or all."
)
_CHECKPOINTS_OF = script_flags.define_path("checkpoints_of", "Folder of the checkpoints, if not --workdir.")
_RESULTS_IN = script_flags.define_path("results_in", "Folder of evaluation/, if not --workdir.")
_WATCH = flags.DEFINE_bool("watch", False, "Evaluate each checkpoint as it appears, until training is finished.")
_POLL = script_flags.define("poll_seconds", 30.0, "Interval between looks for new checkpoints.", at_least=0.1)
_PATIENCE = script_flags.define(
    "patience_minutes", math.inf, "Stop watching if no checkpoint comes for this long.", at_least=0, at_most=math.inf
)


def main() -> None:
    if _WATCH.value or _CHECKPOINT.value == "all":
        evaluate_all.evaluate_all(
            _CONFIG.value,
            _WORKDIR.value,
            _SPLIT.value,
            watch=_WATCH.value,
            poll_seconds=_POLL.value,
            patience_seconds=60 * _PATIENCE.value,
            checkpoints_of=_CHECKPOINTS_OF.value,
            results_in=_RESULTS_IN.value,
        )
        return
    for split in _SPLIT.value:
        evaluate.evaluate(
            _CONFIG.value, _WORKDIR.value, split, _CHECKPOINT.value, _CHECKPOINTS_OF.value, _RESULTS_IN.value
        )


if __name__ == "__main__":
    command.run(main)
