"""Evaluates prompts: shares, recall over guidance strength, text tasks, and violations of taste profiles.

    python tools/evaluate_prompts.py --workdir=runs/streaming
    python tools/evaluate_prompts.py --workdir=runs/streaming --users=0 --strengths=0,1,2 --checkpoint=latest
    python tools/evaluate_prompts.py --workdir=runs/streaming --paraphrases=tests/evaluation/paraphrases.txt

Writes WORKDIR/prompts: SPLIT.json, SPLIT.txt, and the curve as a chart, guidance.svg.
"""

from absl import flags

from genrec import command, script_flags
from genrec.evaluation import evaluate, prompt_metrics

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split of the users.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")
_USERS = flags.DEFINE_integer("users", 512, "Number of users; 0 takes all of the split.", lower_bound=0)
_BEAMS = flags.DEFINE_integer("beams", 50, "Width of the beam search.", lower_bound=prompt_metrics.TOP)
_STRENGTHS = script_flags.define(
    "strengths", (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), "Guidance strengths of the curve.", at_least=0, fewest=1
)
_ITEMS = flags.DEFINE_integer("items", 512, "Number of items whose texts are read and generated.", lower_bound=1)
_PARAPHRASES = script_flags.define_path(
    "paraphrases", "File of phrases with {column}, {one column} and {!column} for values that are wanted or refused."
)
_EXCLUDE = flags.DEFINE_bool("exclude_history", False, "Exclude the items of the history.")


def main() -> None:
    prompt_metrics.evaluate(
        _WORKDIR.value,
        _SPLIT.value,
        _CHECKPOINT.value,
        _USERS.value,
        _BEAMS.value,
        list(_STRENGTHS.value),
        _ITEMS.value,
        _EXCLUDE.value,
        _PARAPHRASES.value or "",
    )


if __name__ == "__main__":
    command.run(main)
