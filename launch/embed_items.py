"""Stage `embed`: turns the catalogue in `WORKDIR/dataset` into one vector per item, `WORKDIR/item_embeddings`.

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart

From a sentence encoder (pip install -e '.[sentences]'), or from your own vectors:

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=sentence_transformers
    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=vectors --config.embeddings.vectors=vectors.npy

On Apache Beam (docs/preparation_at_scale.md):

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart --beam_runner=DirectRunner
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from genrec import command, distributed
from genrec.data.beam import runner as beam_runner
from genrec.semantic_ids.embed import embed

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_BEAM_RUNNER = flags.DEFINE_string("beam_runner", "", "Apache Beam runner, such as DirectRunner; empty: without Beam.")
_BEAM_OPTIONS = flags.DEFINE_multi_string(
    "beam_options", [], "An option for the runner, --NAME=VALUE; repeat the flag."
)


def main() -> None:
    workdir = epath.Path(_WORKDIR.value)
    runner = beam_runner.of_flags(_BEAM_RUNNER.value, _BEAM_OPTIONS.value)
    dataset, embeddings = workdir / "dataset", workdir / "item_embeddings"
    distributed.on_first(lambda: embed(_CONFIG.value.embeddings, dataset, embeddings, runner))


if __name__ == "__main__":
    command.run(main)
