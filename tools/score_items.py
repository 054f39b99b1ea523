"""Scores items for users in real time: reads and writes lines of JSON; every event changes the next scores.

    echo '{"user": "u17", "events": ["m00005", "p01201"], "score": ["m00007", "p01202"]}' | \
        python tools/score_items.py --config=configs/quickstart.py --workdir=runs/quickstart

Scores are those of the multi-stage recommender's ranker: SASRec and features of history, item and context, with the
weights that tools/evaluate_multi_stage.py fitted, if it was run. Lines may have events alone. Users start without a
history.
"""

import sys

from etils import epath

from genrec import command, printing, script_flags
from genrec.data.dataset import Dataset
from genrec.ranking import assembly
from genrec.ranking.popular import popularity
from genrec.serving.item_scorer import ItemScorer

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)


def main() -> None:
    dataset = Dataset(epath.Path(_WORKDIR.value) / "dataset")
    ranker = assembly.load_ranker(_CONFIG.value, _WORKDIR.value, dataset, popularity(dataset))
    scorer = ItemScorer(ranker, dataset.catalogue)
    printing.replace_undecodable_input()
    for line in filter(str.strip, sys.stdin):
        if (answer := scorer.answer(line)) is not None:
            printing.show(answer, flush=True)


if __name__ == "__main__":
    command.run(main)
