"""Writes the dataset of a work directory without a share of its items, to measure how new items are recommended.

    python tools/hold_out_items.py --workdir=runs/after --output=runs/before --share=0.1

Then train in runs/before, stage by stage, and assign semantic IDs in runs/after: docs/growing_catalogues.md.
"""

from etils import epath

from genrec import command, script_flags, workdir_lock
from genrec.data.hold_out import hold_out

_WORKDIR = script_flags.define_path("workdir", "Work directory with the whole dataset.", required=True)
_OUTPUT = script_flags.define_path("output", "Work directory for the dataset without the items.", required=True)
_SHARE = script_flags.define("share", 0.1, "Share of the items to hold out.", above=0, below=1)
_SEED = script_flags.define("seed", 0, "Random seed of the choice of items.", at_least=0)


def main() -> None:
    source, target = (epath.Path(path) / "dataset" for path in (_WORKDIR.value, _OUTPUT.value))
    with workdir_lock.hold(_OUTPUT.value):
        hold_out(source, target, _SHARE.value, _SEED.value)


if __name__ == "__main__":
    command.run(main)
