"""Any public dataset that genrec reads in a folder as it was downloaded; docs/data_sources.md lists them.

    python launch/run.py --config=configs/public_data.py:movielens --workdir=runs/ml-1m --config.data.folder=DATA/ml-1m

The argument is the name of the format, as in data.source. Where the folder holds several datasets, --config.data.subset
says which. The model and its training are those of the Amazon reviews (genrec.recipes), with fewer codes where there
are fewer than 2,048 items; set training.steps and data.k_core to suit the size of the dataset.

Variants:
  NAME       all stages.
  NAME,tiny  a smoke test of a minute on a part or on all of a small dataset, with poor recommendations.
"""

import math

from genrec import config, recipes

MIN_RATING = {
    "kuairec": 1.0,  # of the watch ratio: watched to the end
    "yambda": 50.0,  # percent of the track
}
WITHOUT_TEXTS = ("lightgcn", "otto", "yambda")  # their semantic IDs come of co-occurrence


def get_config(argument: str = "movielens") -> config.Experiment:
    name, _, variant = argument.partition(",")
    if name not in config.FOLDER_SOURCES or variant not in ("", "tiny"):
        raise config.ConfigError(
            f"configs/public_data.py has no variant {argument!r}; choose one of {', '.join(config.FOLDER_SOURCES)}, or "
            "one of them with ',tiny'."
        )
    experiment = recipes.amazon(name)
    experiment.semantic_ids.fit_codes = True
    experiment.data = config.Data(source=name, repeated="drop")
    experiment.data.min_rating = MIN_RATING.get(name, -math.inf)
    if name in WITHOUT_TEXTS:
        experiment.data.text_fields = ()
        experiment.embeddings = config.Embeddings(source="cooccurrence")
    if variant == "tiny":
        recipes.tiny(experiment)
        experiment.semantic_ids = config.SemanticIdLearning(codes=(4, 4), max_collision_rate=1.0, min_usage=0.0)
        experiment.data.k_core = 2
    return experiment
