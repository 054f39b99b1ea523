"""Trains the baseline SASRec on `WORKDIR/dataset`, in `WORKDIR/sasrec`; evaluations then include it.

    python launch/train_sasrec.py --config=configs/quickstart.py --workdir=runs/quickstart

Its settings are in the config's `sasrec`, such as --config.sasrec.model.width=64. It can be stopped at any time: the
same command resumes from the latest checkpoint.
"""

import genrec.host_memory  # noqa: F401 (first: it holds for the threads that the other imports start)
from genrec import command, script_flags, workdir_lock
from genrec.training.train import train_sasrec

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, for the results of all stages.", required=True)


def main() -> None:
    with workdir_lock.hold(_WORKDIR.value):
        train_sasrec(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
