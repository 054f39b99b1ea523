"""A trained model with all that it needs to recommend, read from a work directory and checked to belong together."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import artifacts, sharding
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset
from genrec.decoding import sorted_table
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline import examples
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Histories, Tokenizer
from genrec.models import checkpoints, sasrec, user_context
from genrec.models import load as model_loading
from genrec.semantic_ids import codes
from genrec.semantic_ids.codes import SemanticIds


class LoadedModel(NamedTuple):
    dataset: Dataset
    semantic_ids: SemanticIds | None  # None for SASRec, whose tokens are items
    table: SortedTable | None  # of the same codes
    graphdef: nnx.GraphDef
    params: nnx.State  # the averaged parameters
    step: int  # of training
    tokenizer: Tokenizer
    max_history: int  # items that the model reads
    causal: bool  # how it was trained to read them
    mesh: Mesh  # where the parameters lie
    finished: bool = False  # whether the training ended with this checkpoint
    new_items: np.ndarray | None = None  # bool[items]: got their semantic IDs after the training; None: there are none

    prompts: Mapping[str, Any] = {}  # config.Prompts of a model that knows words

    @property
    def writes(self) -> bool:
        """Whether the model writes texts."""
        return bool(self.prompts.get("texts"))

    def histories(
        self,
        names: Sequence[str],
        items: Sequence[np.ndarray],
        longest: int | None = None,
        contexts: Sequence[RequestContext] | None = None,
    ) -> Histories:
        """Encoder inputs of these users: catalogue rows int[n] of each, oldest first, and the `contexts` of requests.

        `longest` is to how many items histories are padded, and cut; by default `max_history`. For errors see
        `examples.histories`.
        """
        return examples.histories(names, items, self.tokenizer, longest or self.max_history, self.causal, contexts)


def load(
    workdir: epath.PathLike,
    checkpoint: str = "best",
    mesh: Mesh | None = None,
    checkpoints_of: epath.PathLike | None = None,
) -> LoadedModel:
    """`checkpoint` is "best", "latest" or a step; its parameters are put on the devices of `mesh`, by default one.

    `checkpoints_of` is the work directory, or the bucket, that holds the checkpoints, by default the same. One that was
    trained on an ancestor of the semantic IDs fits too: it knows the levels, and the codes of the items of then.

    Raises ArtifactError when the dataset, the semantic IDs or the checkpoint is missing, or when they were not made
    for each other.
    """
    workdir, mesh = epath.Path(workdir), mesh or sharding.one_device()
    dataset = Dataset(workdir / "dataset")
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, datasets.KIND, dataset.fingerprint)
    semantic_ids = SemanticIds.load(workdir / "semantic_ids")
    made_by = epath.Path(checkpoints_of or workdir)
    graphdef, params, record, step = model_loading.load(made_by, checkpoint, mesh)
    fitting = [codes.Ancestor(semantic_ids.fingerprint, dataset.fingerprint)]
    fitting += codes.ancestors(workdir / "semantic_ids")
    if (record.semantic_ids, record.dataset) not in fitting:
        if record.semantic_ids not in {one.semantic_ids for one in fitting}:
            wrong, made_for, here = "semantic IDs", record.semantic_ids, semantic_ids.fingerprint
        else:
            wrong, made_for, here = "dataset", record.dataset, dataset.fingerprint
        raise artifacts.ArtifactError(
            f"{made_by}: the checkpoint of step {step} was trained with other {wrong} ({made_for}) than are here "
            f"now ({here}). Train again in a new --workdir, or bring back the {wrong} of that run."
        )
    generation = len(fitting) - 1 - fitting.index((record.semantic_ids, record.dataset))
    new = codes.generations(workdir / "semantic_ids", semantic_ids.items) > generation
    tokenizer = record.tokenizer(semantic_ids, user_context.load(record, dataset, workdir))
    table = sorted_table.load(workdir, semantic_ids)
    reading = record.max_history, record.causal
    more = record.finished, new if new.any() else None, record.prompts
    return LoadedModel(dataset, semantic_ids, table, graphdef, params, step, tokenizer, *reading, mesh, *more)


def load_sasrec(workdir: epath.PathLike, checkpoint: str = "best", mesh: Mesh | None = None) -> LoadedModel:
    """The baseline SASRec of a work directory; otherwise as `load`."""
    workdir, mesh = epath.Path(workdir), mesh or sharding.one_device()
    dataset = Dataset(workdir / "dataset")
    graphdef, params, record, step = model_loading.load(workdir / checkpoints.SASREC, checkpoint, mesh)
    if record.dataset != dataset.fingerprint:
        raise artifacts.ArtifactError(
            f"{workdir / checkpoints.SASREC}: the checkpoint of step {step} was trained with another dataset "
            f"({record.dataset}) than is here now ({dataset.fingerprint}). Move the folder away, and train again: "
            "launch/train_sasrec.py."
        )
    tokenizer, reading = sasrec.tokenizer(len(dataset.catalogue)), (record.max_history, record.causal)
    return LoadedModel(dataset, None, None, graphdef, params, step, tokenizer, *reading, mesh, record.finished)
