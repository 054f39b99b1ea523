"""Loading of a trained model with the artifacts that it needs to recommend, checked for consistency."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import artifacts, sharding
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset
from genrec.decoding import sorted_table
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.retrieval import Retriever, Searcher
from genrec.decoding.search import log_probabilities_function
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline import examples, item_histories
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Examples, Histories, Tokenizer
from genrec.models import checkpoints, user_context
from genrec.models import load as model_loading
from genrec.models.run_record import RunRecord
from genrec.semantic_ids import codes
from genrec.semantic_ids.codes import SemanticIds


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained model that reads histories, with its dataset."""

    dataset: Dataset
    graphdef: nnx.GraphDef
    params: nnx.State  # averaged parameters
    record: RunRecord
    step: int  # of training
    tokenizer: Tokenizer
    mesh: Mesh  # the devices of the parameters

    @property
    def max_history(self) -> int:
        """Items of a history that the model reads."""
        return self.record.max_history

    def histories(
        self,
        names: Sequence[str],
        items: Sequence[np.ndarray],
        longest: int | None = None,
        contexts: Sequence[RequestContext] | None = None,
        room: int = 0,
    ) -> Histories:
        """Returns the encoder inputs of users: catalogue rows int[n] of each, oldest first, and request contexts.

        Histories are padded and truncated to `longest` items, by default `max_history`; see `examples.histories`.
        """
        longest = longest or self.max_history
        return examples.histories(names, items, self.tokenizer, longest, self.record.causal, contexts, room)


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedGenerator(LoadedModel):
    """A trained generator of semantic IDs, with those of its catalogue."""

    semantic_ids: SemanticIds
    table: SortedTable  # of the same codes
    new_items: np.ndarray | None  # bool[items], which got semantic IDs after the training; None if none did

    @property
    def prompts(self) -> Mapping[str, Any]:
        """config.Prompts; empty for a model without prompts."""
        return self.record.prompts

    def searcher(self, requests: int, beams: int, top: int) -> Searcher:
        """Returns the beam search for batches of at most `requests`, each with a filter of its own."""
        return Retriever(self.graphdef, LiveIndex(self.table, self.dataset.catalogue, filters=requests), beams, top)

    def log_probabilities(self, targets: Examples) -> np.ndarray:
        """Returns float32[rows, targets]: the log-probability of each target, before guidance."""
        return np.asarray(self._log_probabilities(self.params, targets))

    @functools.cached_property
    def _log_probabilities(self) -> Callable[[nnx.State, Examples], jax.Array]:
        return log_probabilities_function(self.graphdef)

    @property
    def generates_texts(self) -> bool:
        """True if the model was trained to generate texts."""
        return bool(self.prompts.get("texts"))


def load(
    workdir: epath.PathLike,
    checkpoint: str = "best",
    mesh: Mesh | None = None,
    checkpoints_of: epath.PathLike | None = None,
) -> LoadedGenerator:
    """Loads the generator of a work directory: `checkpoint` is "best", "latest" or a step.

    The parameters are put on the devices of `mesh`, by default one. `checkpoints_of` is the work directory or bucket
    with the checkpoints, by default `workdir`; they may be trained on an ancestor of the semantic IDs. Raises
    ArtifactError if the dataset, the semantic IDs or the checkpoint is missing, or if they do not belong together.
    """
    workdir, mesh = epath.Path(workdir), mesh or sharding.one_device()
    dataset = Dataset(workdir / "dataset")
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, datasets.KIND, dataset.fingerprint)
    semantic_ids = SemanticIds.load(workdir / "semantic_ids")
    folder = epath.Path(checkpoints_of or workdir)
    graphdef, params, record, step = model_loading.load(folder, checkpoint, mesh)
    trained_on = codes.Ancestor(record.semantic_ids, record.dataset)
    fitting = [
        codes.Ancestor(semantic_ids.fingerprint, dataset.fingerprint),
        *codes.ancestors(workdir / "semantic_ids"),
    ]
    if trained_on not in fitting:
        if record.semantic_ids not in {one.semantic_ids for one in fitting}:
            wrong, expected, present = "semantic IDs", record.semantic_ids, semantic_ids.fingerprint
        else:
            wrong, expected, present = "dataset", record.dataset, dataset.fingerprint
        raise artifacts.ArtifactError(
            f"{folder}: the checkpoint of step {step} was trained with other {wrong} ({expected}) than those present "
            f"({present}). Train again in a new --workdir, or restore the {wrong} of that run."
        )
    generation = len(fitting) - 1 - fitting.index(trained_on)
    is_new = codes.generations(workdir / "semantic_ids", semantic_ids.items) > generation
    shares = record.code_shares(workdir, semantic_ids, dataset.fingerprint)
    tokenizer = record.tokenizer(semantic_ids, user_context.load(record, dataset, workdir), shares, dataset.catalogue)
    table, new = sorted_table.load(workdir, semantic_ids), is_new if is_new.any() else None
    return LoadedGenerator(dataset, graphdef, params, record, step, tokenizer, mesh, semantic_ids, table, new)


def load_sasrec(workdir: epath.PathLike, checkpoint: str = "best", mesh: Mesh | None = None) -> LoadedModel:
    """Loads the baseline SASRec of a work directory; for arguments and errors see `load`."""
    workdir, mesh = epath.Path(workdir), mesh or sharding.one_device()
    dataset, folder = Dataset(workdir / "dataset"), workdir / checkpoints.SASREC
    graphdef, params, record, step = model_loading.load(folder, checkpoint, mesh)
    if record.dataset != dataset.fingerprint:
        raise artifacts.ArtifactError(
            f"{folder}: the checkpoint of step {step} was trained with another dataset ({record.dataset}) than that "
            f"present ({dataset.fingerprint}). Move the folder away, and train again: launch/train_sasrec.py."
        )
    return LoadedModel(dataset, graphdef, params, record, step, item_histories.tokenizer(len(dataset.catalogue)), mesh)
