"""Stage `transitions`: sequences and item embeddings -> the mixture of transitions in `WORKDIR/transitions`.

    python launch/learn_transitions.py --config=configs/quickstart.py --workdir=/tmp/quickstart

A baseline by itself, and an input of models with `model.transition_bias`.
"""

from genrec import command, distributed, script_flags, workdir_lock
from genrec.input_pipeline import learn_transitions

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)


def main() -> None:
    with workdir_lock.hold(_WORKDIR.value):
        distributed.on_first(lambda: learn_transitions.learn(_CONFIG.value.transitions, _WORKDIR.value))


if __name__ == "__main__":
    command.run(main)
