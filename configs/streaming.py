"""The streaming catalogue with all that the model can be told: features and vectors of users, the moment, prompts.

    python launch/run.py --config=configs/streaming.py --workdir=runs/streaming
    python tools/recommend.py --workdir=runs/streaming --users=2 --prompt="something calm, no podcasts"
    python tools/evaluate_prompts.py --workdir=runs/streaming

docs/steering.md is the guide; docs/benchmarks.md says what it takes and reaches.

Variants:
  (none)   history, context, soft tokens and prompts.
  history  the same model, trained on histories alone.
  context  history and features, as tokens.
  soft     history and users' vectors, as soft tokens.
  both     history, features and vectors.
  tiny     everything, in a minute: shows that it works; recommends badly.
"""

from genrec import config, recipes

FEATURES = {"user_columns": ("country", "age_band"), "item_columns": ("media_type",), "time_of_day": True}
VECTORS = {"vector": True, "summary": True}
PROMPTS = "media_type:kind", "genre:about", "topic:about", "mood:mood", "artist:by"


def get_config(variant: str = "") -> config.Experiment:
    experiment = recipes.streaming("streaming")
    experiment.training.steps, experiment.training.warmup_steps = 1500, 150
    experiment.training.validate_every = 500
    match variant:
        case "history":
            pass
        case "context":
            experiment.context = config.Context(**FEATURES)
        case "soft":
            experiment.context = config.Context(**VECTORS)
        case "both":
            experiment.context = config.Context(**FEATURES, **VECTORS)
        case "" | "tiny":
            experiment.context = config.Context(**FEATURES, **VECTORS)
            experiment.prompts = config.Prompts(columns=PROMPTS, rules=("media_type", "artist"), texts=True)
            experiment.training.steps, experiment.training.warmup_steps = 6000, 300
            experiment.training.validate_every = 1000
            # A segment with a prompt takes many tokens for its one target: smaller rows cost a little more padding, and
            # half the attention.
            experiment.training.row_targets = 12
            if variant == "tiny":
                recipes.tiny(experiment)
                experiment.prompts.pieces = 300
        case _:
            raise ValueError(f"configs/streaming.py has no variant {variant!r}; see its docstring.")
    return experiment
