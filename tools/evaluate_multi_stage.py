"""Evaluates the multi-stage recommender: recall, lift and latency of sources, ranker and final scores, in one table.

    python tools/evaluate_multi_stage.py --config=configs/quickstart.py --workdir=runs/quickstart
    python tools/evaluate_multi_stage.py --config=configs/quickstart.py --workdir=runs/quickstart \
        --config.multi_stage.sources="('generator','item-kNN')" --config.evaluation.exclude_history=True

Needs a trained model, and launch/train_sasrec.py for SASRec and the ranker. Weights are fitted on the validation split.
To compare the result with the model alone: tools/compare_runs.py --workdir=WORKDIR \
    --other=WORKDIR/multi_stage/test_users.parquet.
"""

from absl import flags

from genrec import command, script_flags
from genrec.evaluation import evaluate_multi_stage

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")
_RESULTS_IN = script_flags.define_path("results_in", "Folder of multi_stage/, if not --workdir.")


def main() -> None:
    evaluate_multi_stage.evaluate(_CONFIG.value, _WORKDIR.value, _CHECKPOINT.value, _RESULTS_IN.value)


if __name__ == "__main__":
    command.run(main)
