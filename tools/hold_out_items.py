"""Makes the dataset of a work directory as it was before some items existed, to measure how new items fare.

    python tools/hold_out_items.py --workdir=runs/after --output=runs/before --share=0.1

Then train in runs/before, stage by stage, and give runs/after semantic IDs: docs/growing_catalogues.md.
"""

from absl import flags
from etils import epath

from genrec import command
from genrec.data.hold_out import hold_out

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the whole dataset.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Another work directory, for the smaller one.", required=True)
_SHARE = flags.DEFINE_float("share", 0.1, "Of the items that are held out.")
_SEED = flags.DEFINE_integer("seed", 0, "Of their choice.")


def main() -> None:
    source, target = (epath.Path(path) / "dataset" for path in (_WORKDIR.value, _OUTPUT.value))
    hold_out(source, target, _SHARE.value, _SEED.value)


if __name__ == "__main__":
    command.run(main)
