"""Evaluates a checkpoint over all users of a split: metrics beside baselines and by segment, and every rank.

    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=/tmp/quickstart
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --split=validation --checkpoint=latest --config.evaluation.beams=20
"""

from absl import flags
from ml_collections import config_flags

from genrec import command
from genrec.evaluation import stage

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", stage.SPLITS, "Whose next items to predict.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, or a step.")


def main() -> None:
    stage.evaluate(_CONFIG.value, _WORKDIR.value, _SPLIT.value, _CHECKPOINT.value)


if __name__ == "__main__":
    command.run(main)
