"""Stage `embed`: catalogue in `WORKDIR/dataset` -> one embedding per item in `WORKDIR/item_embeddings`.

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart

With a sentence encoder (pip install -e '.[sentences]'), or with your own vectors:

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=sentence_transformers
    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.embeddings.source=vectors --config.embeddings.vectors=vectors.npy

On Apache Beam (docs/preparation_at_scale.md):

    python launch/embed_items.py --config=configs/quickstart.py --workdir=/tmp/quickstart --beam_runner=DirectRunner
"""

from absl import flags
from etils import epath

from genrec import command, distributed, script_flags, workdir_lock
from genrec.data.beam import runner as beam_runner
from genrec.semantic_ids.embed import embed

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_BEAM_RUNNER = flags.DEFINE_string("beam_runner", "", "Apache Beam runner, such as DirectRunner; empty for none.")
_BEAM_OPTIONS = flags.DEFINE_multi_string("beam_options", [], "Option of the runner, --NAME=VALUE; can be repeated.")


def main() -> None:
    workdir = epath.Path(_WORKDIR.value)
    runner = beam_runner.of_flags(_BEAM_RUNNER.value, _BEAM_OPTIONS.value)
    dataset, embeddings = workdir / "dataset", workdir / "item_embeddings"
    with workdir_lock.hold(workdir):
        distributed.on_first(lambda: embed(_CONFIG.value.embeddings, dataset, embeddings, runner))


if __name__ == "__main__":
    command.run(main)
