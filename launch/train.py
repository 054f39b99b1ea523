"""Stage `train`: `WORKDIR/dataset` and `WORKDIR/semantic_ids` -> `WORKDIR/checkpoints`.

    python launch/train.py --config=configs/quickstart.py --workdir=runs/quickstart

It can be stopped at any time: the same command resumes from the latest checkpoint. Metrics are in WORKDIR/metrics.jsonl
and in `tensorboard --logdir=WORKDIR`.
"""

from absl import flags
from ml_collections import config_flags

from genrec import command
from genrec.training.train import train

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory, for the results of all stages.", required=True)


def main() -> None:
    train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
