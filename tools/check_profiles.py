"""Checks that nothing is recommended that a taste profile denies: random profiles, under random prompts.

    python tools/check_profiles.py --workdir=runs/streaming
    python tools/check_profiles.py --workdir=runs/streaming --profiles=0

Each profile is of one user of the split, and mostly against what that user is recommended. What it denies is decided
item by item from the catalogue, independently of the filters of the search.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.evaluation import evaluate, profile_checks

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split of the users.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")
_PROFILES = flags.DEFINE_integer("profiles", 10_000, "Number of profiles; 0 is one of each user.", lower_bound=0)
_BEAMS = flags.DEFINE_integer("beams", 20, "Width of the beam search.", lower_bound=profile_checks.TOP)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of profiles and prompts.", lower_bound=0)


def main() -> None:
    found = profile_checks.evaluate(
        _WORKDIR.value, _SPLIT.value, _CHECKPOINT.value, _PROFILES.value, _BEAMS.value, _SEED.value
    )
    printing.show(", ".join(f"{count:,} {name}" for name, count in found.items()))


if __name__ == "__main__":
    command.run(main)
