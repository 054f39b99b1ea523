"""Runs all stages of a config, from raw data to metrics: skips those that are up to date, and resumes training.

    python launch/run.py --config=configs/quickstart.py --workdir=runs/quickstart

Single settings: --config.training.steps=500. The stages one by one: launch/prepare_data.py, embed_items.py,
learn_semantic_ids.py, learn_transitions.py and train.py, then tools/evaluate_checkpoint.py.
"""

import genrec.host_memory  # noqa: F401, I001 (first: it holds for the threads that the other imports start)
from etils import epath

from genrec import command, distributed, script_flags, sharding, workdir_lock
from genrec.data.prepare import prepare
from genrec.evaluation.evaluate import evaluate
from genrec.input_pipeline import learn_transitions
from genrec.semantic_ids import embed, given
from genrec.semantic_ids.tokenize import learn
from genrec.training import run_setup
from genrec.training.train import train

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, for the results of all stages.", required=True)


def main() -> None:
    experiment, workdir = _CONFIG.value, epath.Path(_WORKDIR.value)
    dataset, embeddings = workdir / "dataset", workdir / "item_embeddings"
    run_setup.check(experiment)  # before the first stage: the last would end on some of it
    mesh = sharding.make_mesh(experiment.mesh)
    with workdir_lock.hold(workdir):
        # Before anything is replaced, like the check above.
        embed.check_files(experiment.embeddings)
        given.check_file(experiment.semantic_ids)
        run_setup.check_resumable(experiment, workdir)
        distributed.on_first(lambda: prepare(experiment.data, dataset))
        distributed.on_first(lambda: embed.embed(experiment.embeddings, dataset, embeddings))
        learn(experiment.semantic_ids, embeddings, workdir / "semantic_ids", mesh)
        distributed.on_first(lambda: learn_transitions.learn(experiment.transitions, workdir))
        train(experiment, workdir)
        evaluate(experiment, workdir, split="test")


if __name__ == "__main__":
    command.run(main)
