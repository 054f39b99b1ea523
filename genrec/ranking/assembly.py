"""Builds the sources and the ranker of a work directory, as named in the config of the multi-stage recommender.

Sources are the generator and the baselines: most popular, item-kNN, transitions and SASRec.
`evaluation.evaluate_multi_stage` fits the weights of the ranker, and leaves them in WORKDIR/FOLDER/WEIGHTS.
"""

from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from jax.sharding import Mesh

from genrec import artifacts, sharding
from genrec.config import ConfigError, Experiment
from genrec.data.dataset import Dataset
from genrec.decoding import loaded_model
from genrec.files import load_array, read_json
from genrec.input_pipeline import transitions
from genrec.models import checkpoints, user_context
from genrec.ranking import popular
from genrec.ranking.features import Features
from genrec.ranking.item_knn import ItemKnn
from genrec.ranking.lists import GENERATOR, KNN, POPULAR, SASREC, TRANSITIONS, Source
from genrec.ranking.model_sources import ModelSource, SasRec
from genrec.ranking.multi_stage import RANKER
from genrec.ranking.popular import MostPopular
from genrec.ranking.ranker import SEQUENTIAL, FeatureRanker
from genrec.ranking.transitions import Transitions

FOLDER, WEIGHTS, TREES = "multi_stage", "weights.json", "trees.json"


def load_baselines(
    experiment: Experiment, workdir: epath.PathLike, dataset: Dataset, popularity: np.ndarray, mesh: Mesh | None = None
) -> dict[str, Source]:
    """Returns the baselines of a work directory by name; transitions and SASRec if they were learned.

    `popularity` int[items] are training interactions. Lists of SASRec have as many items as the generator has beams.
    """
    builders = _baselines(experiment, workdir, dataset, popularity, mesh, experiment.evaluation.beams)
    if not checkpoints.steps(epath.Path(workdir) / checkpoints.SASREC):
        del builders[SASREC]
    if not (epath.Path(workdir) / transitions.FOLDER).exists():
        del builders[TRANSITIONS]
    return _named({name: build() for name, build in builders.items()})


def load_sources(
    experiment: Experiment, workdir: epath.PathLike, dataset: Dataset, popularity: np.ndarray, checkpoint: str
) -> dict[str, Source]:
    """Returns the sources that multi_stage.sources names; the generator from `checkpoint`.

    Raises ConfigError if there is no source or one is unknown, ArtifactError if a model was not trained.
    """
    cfg, mesh = experiment.multi_stage, sharding.make_mesh(experiment.mesh)
    top, batch = max(cfg.candidates, experiment.evaluation.beams), experiment.evaluation.batch
    builders = _baselines(experiment, workdir, dataset, popularity, mesh, top)
    builders[GENERATOR] = lambda: ModelSource.generator(loaded_model.load(workdir, checkpoint, mesh), top, batch)
    unknown = [name for name in cfg.sources if name not in builders]
    if unknown or not cfg.sources:
        problem = f"there is no source {unknown[0]!r}" if unknown else "no source is named"
        raise ConfigError(
            f"multi_stage.sources: {problem}. Choose of {', '.join(builders)}, on the command line as "
            f"""--config.multi_stage.sources="('{GENERATOR}','{KNN}')"."""
        )
    if SASREC in cfg.sources:
        _require_sasrec(workdir)
    return _named({name: builders[name]() for name in cfg.sources})


def load_ranker(
    experiment: Experiment, workdir: epath.PathLike, dataset: Dataset, popularity: np.ndarray
) -> FeatureRanker:
    """Returns the ranker of a work directory, with its fitted weights if there are any.

    `popularity` int[items] are training interactions. Raises ArtifactError if SASRec was not trained.
    """
    cfg = experiment.multi_stage
    _require_sasrec(workdir)
    features = _features(workdir, dataset, popularity, cfg.item_columns, cfg.user_columns)
    return FeatureRanker(SasRec.load(workdir, cfg.candidates, experiment.evaluation.batch), features, _fitted(workdir))


def fitted_features(workdir: epath.PathLike, dataset: Dataset) -> tuple[Features, dict[str, float] | None]:
    """Returns the features of the ranker of a work directory, and their weights, which are None if none were fitted.

    The weights name the columns of the features, so that no config is needed. Raises ArtifactError if they name what
    the work directory does not have.
    """
    weights = _fitted(workdir)
    item_columns, user_columns = Features.columns_in(weights or {}, dataset)
    features = _features(workdir, dataset, popular.popularity(dataset), item_columns, user_columns)
    if missing := (weights or {}).keys() - {SEQUENTIAL, *features.names}:
        raise artifacts.ArtifactError(
            f"{epath.Path(workdir) / FOLDER / WEIGHTS}: the ranker has weights of {', '.join(sorted(missing))}, which "
            "the work directory no longer has. Fit them again: tools/evaluate_multi_stage.py."
        )
    return features, weights


def _features(
    workdir: epath.PathLike,
    dataset: Dataset,
    popularity: np.ndarray,
    item_columns: Sequence[str],
    user_columns: Sequence[str],
) -> Features:
    embeddings, folder = user_context.embeddings_file(workdir), epath.Path(workdir) / transitions.FOLDER
    content = load_array(embeddings) if embeddings.exists() else None
    mixture = transitions.Transitions.load(folder) if folder.exists() else None
    return Features.count(dataset, popularity, content, item_columns, user_columns, mixture)


def _fitted(workdir: epath.PathLike) -> dict[str, float] | None:
    """Returns the weights of the ranker that a work directory has, if any."""
    path = epath.Path(workdir) / FOLDER / WEIGHTS
    return read_json(path)[RANKER] if path.exists() else None


def _baselines(
    experiment: Experiment,
    workdir: epath.PathLike,
    dataset: Dataset,
    popularity: np.ndarray,
    mesh: Mesh | None,
    top: int,
) -> dict[str, Callable[[], Source]]:
    """Returns a function by name that builds each baseline; `top` is the length of SASRec's lists."""
    return {
        POPULAR: lambda: MostPopular(popularity),
        KNN: lambda: ItemKnn.learn(dataset, experiment.item_knn),
        TRANSITIONS: lambda: Transitions.load(workdir, dataset.fingerprint),
        SASREC: lambda: SasRec.load(workdir, top, experiment.evaluation.batch, mesh),
    }


def _named(sources: dict[str, Source]) -> dict[str, Source]:
    """Returns the sources by their names in tables, where SASRec may be BSARec."""
    return {source.title if isinstance(source, SasRec) else name: source for name, source in sources.items()}


def _require_sasrec(workdir: epath.PathLike) -> None:
    folder = epath.Path(workdir) / checkpoints.SASREC
    if not checkpoints.steps(folder):
        raise artifacts.ArtifactError(
            f"{folder}: no SASRec was trained. Run launch/train_sasrec.py first, or choose other multi_stage.sources "
            "and no multi_stage.ranker."
        )
