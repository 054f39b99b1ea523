"""Evaluates checkpoints over all users of a split: metrics beside baselines, by segment, and every user's rank.

    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart \
        --split=validation,test --checkpoint=latest --config.evaluation.beams=20
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart --checkpoint=all
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/quickstart --watch

One checkpoint leaves its results in WORKDIR/evaluation; all of them, or each as it appears, leave theirs in
WORKDIR/evaluation/step_STEP, and a table. What has results is not evaluated again.
Checkpoints may be elsewhere, in a bucket or in the folder of a run on a smaller catalogue: --checkpoints_of.
"""

from absl import flags
from ml_collections import config_flags

from genrec import command
from genrec.evaluation import evaluate, evaluate_all

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_SPLIT = flags.DEFINE_list("split", ["test"], "Whose next items to predict: validation, test, or both.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, a step, or all.")
_CHECKPOINTS_OF = flags.DEFINE_string("checkpoints_of", None, "Where the checkpoints are, if not in --workdir.")
_WATCH = flags.DEFINE_bool("watch", False, "Evaluate each checkpoint as it appears, until training is finished.")
_POLL = flags.DEFINE_float("poll_seconds", 30.0, "How often to look for new checkpoints.", lower_bound=0.1)
_PATIENCE = flags.DEFINE_float("patience_minutes", float("inf"), "Stop watching when nothing new came for so long.")


def main() -> None:
    if _WATCH.value or _CHECKPOINT.value == "all":
        waiting = _WATCH.value, _POLL.value, 60 * _PATIENCE.value
        evaluate_all.evaluate_all(_CONFIG.value, _WORKDIR.value, _SPLIT.value, *waiting, _CHECKPOINTS_OF.value)
        return
    for split in _SPLIT.value:
        evaluate.evaluate(_CONFIG.value, _WORKDIR.value, split, _CHECKPOINT.value, _CHECKPOINTS_OF.value)


if __name__ == "__main__":
    command.run(main)
