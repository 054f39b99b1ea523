"""Sources of candidates and the ranker of a work directory: what the config of the multi-stage recommender names."""

import json

import numpy as np
from etils import epath
from jax.sharding import Mesh

from genrec import artifacts, sharding
from genrec.config import ConfigError, Experiment
from genrec.data.dataset import Dataset
from genrec.decoding import loaded_model
from genrec.files import load_array
from genrec.models import checkpoints, user_context
from genrec.ranking.features import Features
from genrec.ranking.item_knn import ItemKnn
from genrec.ranking.lists import Source
from genrec.ranking.model_sources import ModelSource, SasRec
from genrec.ranking.popular import MostPopular
from genrec.ranking.ranker import FeatureRanker

FOLDER = "pipeline"  # of a work directory
WEIGHTS = "weights.json"
GENERATOR, RANKER = "generator", "ranker"
POPULAR, KNN, SASREC = NAMES = ("most popular", "item-kNN", "SASRec")


def load(
    experiment: Experiment,
    workdir: epath.PathLike,
    dataset: Dataset,
    popularity: np.ndarray,
    mesh: Mesh | None = None,
    top: int = 0,
) -> dict[str, Source]:
    """The baselines of a work directory, by name: SASRec where it was trained, and those that need no training run.

    `popularity` int[items] are training interactions; `top` is the length of the longest lists, by default as many as
    the model has beams.
    """
    found: dict[str, Source] = {
        POPULAR: MostPopular(popularity),
        KNN: ItemKnn.learn(dataset, experiment.item_knn),
    }
    if checkpoints.steps(epath.Path(workdir) / checkpoints.SASREC):
        cfg = experiment.evaluation
        found[SASREC] = SasRec.load(workdir, max(top, cfg.beams), cfg.batch, mesh)
    return found


def load_ranker(
    experiment: Experiment, workdir: epath.PathLike, dataset: Dataset, popular: np.ndarray
) -> FeatureRanker:
    """The ranker of a work directory, with the weights that `evaluate` fitted where it did.

    `popular` int[items] are training interactions. Raises ArtifactError where no SASRec was trained.
    """
    workdir, cfg = epath.Path(workdir), experiment.multi_stage
    _require_sasrec(workdir)
    path = user_context.embeddings_file(workdir)
    content = load_array(path) if path.exists() else None
    features = Features(dataset, popular, content, cfg.item_columns, cfg.user_columns)
    model = SasRec.load(workdir, cfg.candidates, experiment.evaluation.batch)
    weights = workdir / FOLDER / WEIGHTS
    return FeatureRanker(model, features, json.loads(weights.read_text())["ranker"] if weights.exists() else None)


def sources(
    experiment: Experiment, workdir: epath.Path, dataset: Dataset, popular: np.ndarray, checkpoint: str
) -> dict[str, Source]:
    cfg, mesh = experiment.multi_stage, sharding.make_mesh(experiment.mesh)
    known = (GENERATOR, *NAMES)
    for name in cfg.sources:
        if name not in known:
            raise ConfigError(
                f"multi_stage.sources: there is no source {name!r}. Choose of {', '.join(known)}, on the command line "
                f"""as --config.multi_stage.sources="('{GENERATOR}','{KNN}')"."""
            )
    if not cfg.sources:
        raise ConfigError(f"multi_stage.sources is empty. Choose of {', '.join(known)}.")
    if SASREC in cfg.sources:
        _require_sasrec(workdir)
    others = load(experiment, workdir, dataset, popular, mesh, cfg.candidates)
    found: dict[str, Source] = {}
    for name in cfg.sources:
        if name == GENERATOR:
            loaded = loaded_model.load(workdir, checkpoint, mesh)
            beams = max(cfg.candidates, experiment.evaluation.beams)
            found[name] = ModelSource.generator(loaded, beams, experiment.evaluation.batch)
        else:
            found[name] = others[name]
    return found


def _require_sasrec(workdir: epath.Path) -> None:
    if not checkpoints.steps(workdir / checkpoints.SASREC):
        raise artifacts.ArtifactError(
            f"{workdir / checkpoints.SASREC}: no SASRec was trained. Run launch/train_sasrec.py first, or choose other "
            "multi_stage.sources and no multi_stage.ranker."
        )
