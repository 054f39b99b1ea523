"""Assigns semantic IDs to the new items of a grown catalogue, by the frozen codebooks of an earlier run.

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=runs/after
    python tools/assign_semantic_ids.py --config=configs/quickstart.py --workdir=runs/after --parent=runs/before
    python tools/evaluate_checkpoint.py --config=configs/quickstart.py --workdir=runs/after --checkpoints_of=runs/before

Old items keep their IDs, so that checkpoints of the earlier run can recommend old and new items.
"""

from genrec import command, script_flags, workdir_lock
from genrec.input_pipeline import learn_transitions
from genrec.semantic_ids import growth

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory with the grown dataset.", required=True)
_PARENT = script_flags.define_path("parent", "Work directory of the earlier run.", required=True)


def main() -> None:
    with workdir_lock.hold(_WORKDIR.value):
        growth.assign(_CONFIG.value.embeddings, _WORKDIR.value, _PARENT.value)
        learn_transitions.learn(_CONFIG.value.transitions, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
