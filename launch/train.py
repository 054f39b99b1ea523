"""Stage `train`: `WORKDIR/dataset` and `WORKDIR/semantic_ids` -> `WORKDIR/checkpoints`.

    python launch/train.py --config=configs/quickstart.py --workdir=runs/quickstart

It can be stopped at any time: the same command resumes from the latest checkpoint. Metrics are in WORKDIR/metrics.jsonl
and in `tensorboard --logdir=WORKDIR`.
"""

import genrec.host_memory  # noqa: F401 (first: it holds for the threads that the other imports start)
from genrec import command, script_flags, workdir_lock
from genrec.training.train import train

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, for the results of all stages.", required=True)


def main() -> None:
    with workdir_lock.hold(_WORKDIR.value):
        train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
