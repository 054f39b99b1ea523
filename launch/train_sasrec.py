"""Trains the baseline SASRec on `WORKDIR/dataset`, in `WORKDIR/sasrec`; evaluations then include it.

    python launch/train_sasrec.py --config=configs/quickstart.py --workdir=runs/quickstart

Its settings are in the config's `sasrec`, such as --config.sasrec.model.width=64. It can be stopped at any time: the
same command resumes from the latest checkpoint.
"""

from absl import flags
from ml_collections import config_flags

from genrec import command
from genrec.training.train import train_sasrec

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory, for the results of all stages.", required=True)


def main() -> None:
    train_sasrec(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
