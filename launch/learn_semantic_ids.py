"""Stage `tokenize`: item embeddings in `WORKDIR/item_embeddings` -> semantic IDs in `WORKDIR/semantic_ids`.

    python launch/learn_semantic_ids.py --config=configs/quickstart.py --workdir=/tmp/quickstart

With an RQ-VAE, or other codebook sizes:

    python launch/learn_semantic_ids.py --config=configs/quickstart.py --workdir=/tmp/quickstart \
        --config.semantic_ids.method=rqvae --config.semantic_ids.codes=64,64,64

Prints a quality report (docs/semantic_ids.md), and fails if the codes do not pass its health gate.
"""

from etils import epath

from genrec import command, script_flags, sharding, workdir_lock
from genrec.semantic_ids.tokenize import learn

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)


def main() -> None:
    experiment, workdir = _CONFIG.value, epath.Path(_WORKDIR.value)
    mesh = sharding.make_mesh(experiment.mesh)
    with workdir_lock.hold(workdir):
        learn(experiment.semantic_ids, workdir / "item_embeddings", workdir / "semantic_ids", mesh)


if __name__ == "__main__":
    command.run(main)
