"""Stage `prepare`: turns interactions, items and users into `WORKDIR/dataset`.

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=/tmp/quickstart

With your own files (docs/bring_your_own_data.md):

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=/tmp/tiny --config.data.source=files \
        --config.data.interactions=examples/tiny/interactions.csv --config.data.items=examples/tiny/items.csv \
        --config.data.k_core=2
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from genrec import command
from genrec.data.prepare import prepare

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder or bucket in which the stages leave their results.", required=True
)


def main() -> None:
    prepare(_CONFIG.value.data, epath.Path(_WORKDIR.value) / "dataset")


if __name__ == "__main__":
    command.run(main)
