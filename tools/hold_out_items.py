"""Writes the dataset of a work directory without a share of its items, to measure how new items are recommended.

    python tools/hold_out_items.py --workdir=runs/after --output=runs/before --share=0.1

Then train in runs/before, stage by stage, and assign semantic IDs in runs/after: docs/growing_catalogues.md.
"""

from absl import flags
from etils import epath

from genrec import command
from genrec.data.hold_out import hold_out

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory with the whole dataset.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Work directory for the dataset without the items.", required=True)
_SHARE = flags.DEFINE_float("share", 0.1, "Share of the items to hold out.")
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of the choice of items.")


def main() -> None:
    source, target = (epath.Path(path) / "dataset" for path in (_WORKDIR.value, _OUTPUT.value))
    hold_out(source, target, _SHARE.value, _SEED.value)


if __name__ == "__main__":
    command.run(main)
