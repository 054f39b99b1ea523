"""Stage `transitions`: sequences and item embeddings -> the mixture of transitions in `WORKDIR/transitions`.

    python launch/learn_transitions.py --config=configs/quickstart.py --workdir=/tmp/quickstart

A baseline by itself, and an input of models with `model.transition_bias`.
"""

from absl import flags
from ml_collections import config_flags

from genrec import command, distributed
from genrec.input_pipeline import transitions

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory, with the results of all stages.", required=True)


def main() -> None:
    distributed.on_first(lambda: transitions.learn(_CONFIG.value.transitions, _WORKDIR.value))


if __name__ == "__main__":
    command.run(main)
