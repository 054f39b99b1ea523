"""The built-in streaming catalogue (music, podcasts, audiobooks): all stages, in minutes on a laptop.

    python launch/run.py --config=configs/quickstart.py --workdir=runs/quickstart

or, with installation and recommendations for a few users, ./launch/quickstart.sh.

Takes minutes on 2 CPU cores and reaches Recall@10 .57 on the test split; the most popular items have .04, item-kNN .49,
and SASRec, trained for another minute, .50 (docs/benchmarks.md).

Variants:
  (none)  2,000 items, 4,000 users.
  tiny    300 items, 400 users and a few training steps: a smoke test of one minute, with poor recommendations.
"""

from genrec import config, recipes


def get_config(variant: str = "") -> config.Experiment:
    experiment = recipes.streaming("quickstart")
    match variant:
        case "":
            pass
        case "tiny":
            recipes.tiny(experiment)
        case _:
            raise config.ConfigError(f"configs/quickstart.py has no variant {variant!r}; choose '' or 'tiny'.")
    return experiment
