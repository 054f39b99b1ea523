"""The streaming catalogue with all inputs of the model: user features and vectors, request context, and prompts.

    python launch/run.py --config=configs/streaming.py --workdir=runs/streaming
    python tools/recommend.py --workdir=runs/streaming --users=2 --prompt="something calm, no podcasts"
    python tools/evaluate_prompts.py --workdir=runs/streaming

docs/steering.md is the guide; docs/benchmarks.md has its training time and metrics.

Variants:
  (none)   history, features, soft tokens and prompts.
  history  histories alone.
  context  histories, and features as tokens.
  soft     histories, and vectors as soft tokens.
  both     histories, features and vectors.
  tiny     everything: a smoke test of one minute, with poor recommendations.
"""

import dataclasses

from genrec import config, recipes

FEATURES = config.Context(user_columns=("country", "age_band"), item_columns=("media_type",), time_of_day=True)
VECTORS = config.Context(vector=True, summary=True)
BOTH = dataclasses.replace(FEATURES, vector=True, summary=True)
PROMPTS = "media_type:kind", "genre:about", "topic:about", "mood:mood", "artist:by"


def get_config(variant: str = "") -> config.Experiment:
    experiment = recipes.streaming("streaming")
    experiment.training.steps, experiment.training.warmup_steps = 1500, 150
    experiment.training.validate_every = 500
    match variant:
        case "history":
            pass
        case "context":
            experiment.context = dataclasses.replace(FEATURES)
        case "soft":
            experiment.context = dataclasses.replace(VECTORS)
        case "both":
            experiment.context = dataclasses.replace(BOTH)
        case "" | "tiny":
            experiment.context = dataclasses.replace(BOTH)
            experiment.prompts = config.Prompts(columns=PROMPTS, rules=("media_type", "artist"), texts=True, bias=True)
            experiment.training.steps, experiment.training.warmup_steps = 6000, 300
            experiment.training.validate_every = 1000
            # A segment with a prompt has many tokens for one target: shorter rows cost a little more padding, and save
            # half the attention.
            experiment.training.row_targets = 12
            if variant == "tiny":
                recipes.tiny(experiment)
                experiment.prompts.pieces = 300
        case _:
            raise config.ConfigError(f"configs/streaming.py has no variant {variant!r}; see its docstring.")
    return experiment
