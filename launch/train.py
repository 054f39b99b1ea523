"""Stage `train`: from `WORKDIR/dataset` and `WORKDIR/semantic_ids` to `WORKDIR/checkpoints`.

    python launch/train.py --config=configs/quickstart.py --workdir=runs/quickstart

Stop it at any time: the same command goes on from the newest checkpoint. Curves are in WORKDIR/metrics.jsonl, and in
`tensorboard --logdir=WORKDIR`.
"""

from absl import flags
from ml_collections import config_flags

from genrec import command
from genrec.training.train import train

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder in which the stages leave their results.", required=True)


def main() -> None:
    train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
