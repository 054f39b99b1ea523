"""Stage `embed`: turns the catalogue in `WORKDIR/dataset` into one vector per item, `WORKDIR/item_embeddings`.

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart

From a sentence encoder (pip install -e '.[sentences]'), or from your own vectors:

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=sentence_transformers
    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=vectors --config.embeddings.vectors=vectors.npy
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from genrec import command
from genrec.semantic_ids.embeddings import embed

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder or bucket with the stages' results.", required=True)


def main() -> None:
    workdir = epath.Path(_WORKDIR.value)
    embed(_CONFIG.value.embeddings, workdir / "dataset", workdir / "item_embeddings")


if __name__ == "__main__":
    command.run(main)
