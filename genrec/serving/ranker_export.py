"""Export of the sequential model (SASRec or BSARec) of a work directory, and of the ranker on top of it."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
from absl import logging
from etils import epath
from flax import nnx

from genrec.data.dataset import Dataset
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.context import SEQUENTIAL
from genrec.input_pipeline.examples import NO_ITEMS, Histories
from genrec.models import checkpoints
from genrec.models import load as model_loading
from genrec.models.load import SavedModel
from genrec.models.sasrec import SASRec
from genrec.ranking import assembly
from genrec.ranking.features import TRANSITIONS, Features, reads_content
from genrec.serving import bundle
from genrec.serving.bundle_writer import BundleWriter
from genrec.serving.served_ranker import SCORES, VECTORS, sequential_name


def reads_sequential(loaded: LoadedGenerator) -> bool:
    """Returns whether a generator reads the vectors of the sequential model."""
    return any(vector.name == SEQUENTIAL for vector in loaded.tokenizer.context.vectors)


def load_sequential(loaded: LoadedGenerator, workdir: epath.PathLike) -> SavedModel | None:
    """Loads the sequential model of a work directory; None if it has none that goes with its dataset or generator."""
    folder = epath.Path(workdir) / checkpoints.SASREC
    if not checkpoints.steps(folder):
        return None
    saved = model_loading.load(folder, mesh=loaded.mesh)
    if reads_sequential(loaded) or can_rank(saved, loaded.dataset):
        return saved
    logging.warning("%s was trained on another dataset: the bundle has no ranker", folder)
    return None


def can_rank(saved: SavedModel, dataset: Dataset) -> bool:
    """Returns whether a sequential model was trained on this dataset."""
    return saved.record.dataset == dataset.fingerprint


def write_sequential(
    writer: BundleWriter, saved: SavedModel, batch_sizes: Sequence[int], with_vectors: bool
) -> tuple[str, ...]:
    """Writes a sequential model; returns the names of its parameters, in the order of the programs' arguments."""
    graphdef, params, record, _ = saved
    tokenizer = item_histories.tokenizer(record.sizes[0])

    def scores(params: nnx.State, histories: Histories) -> jax.Array:
        model: SASRec = nnx.merge(graphdef, params)
        return model.scores(histories)

    def vectors(params: nnx.State, histories: Histories) -> jax.Array:
        model: SASRec = nnx.merge(graphdef, params)
        return model.vectors(histories).astype("float32")

    programs = [(SCORES, scores, batch_sizes)]
    if with_vectors:
        programs.append((VECTORS, vectors, item_histories.BATCH_SIZES))
    for kind, function, sizes in programs:
        for size in sizes:
            histories = item_histories.batch([NO_ITEMS], tokenizer, record.max_history, record.causal, size)
            writer.program(sequential_name(kind, size), function, params, histories)
    writer.json(bundle.SEQUENTIAL, dataclasses.asdict(record))
    return tuple(writer.parameters(bundle.SEQUENTIAL_WEIGHTS, params))


@dataclasses.dataclass(frozen=True)
class Ranker:
    """The fitted ranker of a work directory."""

    features: Features
    weights: dict[str, float] | None  # None: that of SASRec's score alone is 1

    @staticmethod
    def load(workdir: epath.PathLike, dataset: Dataset) -> "Ranker":
        """Loads the ranker of a work directory; without fitted weights, that of SASRec's score alone."""
        features, weights = assembly.fitted_features(workdir, dataset)
        used = weights or {}
        content = features.content if reads_content(used) else None
        transitions = features.transitions if TRANSITIONS in used else None
        return Ranker(dataclasses.replace(features, content=content, transitions=transitions), weights)

    def write(self, writer: BundleWriter) -> None:
        """Writes the ranker, but for what it shares with the generator: catalogue, users, item vectors, transitions."""
        columns = {"item_columns": list(self.features.values), "user_columns": list(self.features.contexts)}
        writer.json(
            bundle.RANKER, {"weights": self.weights, "reads_content": self.features.content is not None, **columns}
        )
        pairs = itertools.product(columns["user_columns"], columns["item_columns"])
        lift = {f"lift.{place}": self.features.lift[pair] for place, pair in enumerate(pairs)}
        writer.arrays(bundle.RANKER_ARRAYS, {"popularity": self.features.popularity, **lift})
