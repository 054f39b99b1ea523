"""What a model is told of users, from a work directory: the users table, item embeddings, and SASRec's vectors."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from flax import nnx

from genrec import sharding
from genrec.artifacts import ArtifactError
from genrec.data.dataset import Dataset
from genrec.files import load_array
from genrec.input_pipeline.context import SEQUENTIAL, SUMMARY, Context, Encode, Users
from genrec.input_pipeline.examples import NOBODY, Histories, histories
from genrec.models import checkpoints, run_record
from genrec.models import load as model_loading
from genrec.models import sasrec as sasrec_model

AT_ONCE = 64  # histories of which SASRec makes vectors


def load(record: run_record.RunRecord, dataset: Dataset, workdir: epath.PathLike) -> Users:
    """What the model of a record is told of the users of a dataset.

    Raises ArtifactError where item embeddings or SASRec are read and not there, or SASRec is another one.
    """
    context, vectors, encode = Context.from_json(record.context), None, None
    softs = {soft.name: soft for soft in context.soft}
    if SUMMARY in softs:
        vectors = load_array(embeddings_file(workdir))
    if SEQUENTIAL in softs:
        sasrec = sequential_encoder(workdir)
        encode = sasrec.encode
        if sasrec.fingerprint != softs[SEQUENTIAL].source:
            raise ArtifactError(
                f"{epath.Path(workdir) / checkpoints.SASREC}: the model was trained with the vectors of another "
                "SASRec. Bring that one back, or train again in a new --workdir."
            )
    return Users(context, dataset.users if context.names else None, vectors, encode)


def embeddings_file(workdir: epath.PathLike) -> epath.Path:
    """The item embeddings of a work directory."""
    return epath.Path(workdir) / "item_embeddings" / "embeddings.npy"


class SequentialEncoder(NamedTuple):
    """SASRec, as what makes vectors of histories."""

    width: int
    fingerprint: str  # of its parameters
    encode: Encode


def sequential_encoder(workdir: epath.PathLike) -> SequentialEncoder:
    """Of a work directory's best SASRec; for errors see `saved.load`."""
    mesh = sharding.one_device()
    graphdef, params, record, _ = model_loading.load(epath.Path(workdir) / checkpoints.SASREC, mesh=mesh)
    tokenizer = sasrec_model.tokenizer(record.sizes[0])

    @jax.jit
    def vectors(params: nnx.State, rows: Histories) -> jax.Array:
        return nnx.merge(graphdef, params).vectors(rows).astype("float32")

    def encode(items: Sequence[np.ndarray]) -> np.ndarray:
        filled = list(items) + [items[0]] * (-len(items) % AT_ONCE)  # few shapes to compile
        rows = histories([NOBODY] * len(filled), filled, tokenizer, record.max_history, record.causal)
        with jax.set_mesh(mesh):  # whatever the mesh of the training that reads them
            return np.asarray(vectors(params, rows))[: len(items)]

    return SequentialEncoder(record.model["width"], checkpoints.fingerprint(params), encode)
