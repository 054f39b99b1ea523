"""Features of users for a model, from a work directory: the users table, item embeddings, and SASRec's vectors."""

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from flax import nnx

from genrec import sharding
from genrec.artifacts import ArtifactError
from genrec.data.dataset import Dataset
from genrec.files import load_array
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.context import SEQUENTIAL, SUMMARY, Context, Encode, UserFeatures, VectorFeature
from genrec.input_pipeline.examples import Histories
from genrec.models import checkpoints, run_record
from genrec.models import load as model_loading


def load(record: run_record.RunRecord, dataset: Dataset, workdir: epath.PathLike) -> UserFeatures:
    """Loads the features of the users of a dataset that the model of a record reads.

    Raises ArtifactError where the model needs item embeddings or SASRec and they are missing, or SASRec is another one.
    """
    context, item_vectors, encode = Context.from_json(record.context), None, None
    vectors = {vector.name: vector for vector in context.vectors}
    if SUMMARY in vectors:
        item_vectors = load_array(embeddings_file(workdir))
    if SEQUENTIAL in vectors:
        found, encode = sasrec_encoder(workdir, vectors[SEQUENTIAL].tokens)
        if found != vectors[SEQUENTIAL]:
            raise ArtifactError(
                f"{epath.Path(workdir) / checkpoints.SASREC}: the model was trained with the vectors of another "
                "SASRec. Bring that one back, or train again in a new --workdir."
            )
    return UserFeatures(context, dataset.users if context.names else None, item_vectors, encode)


def embeddings_file(workdir: epath.PathLike) -> epath.Path:
    """Returns the path of the item embeddings in a work directory."""
    return epath.Path(workdir) / "item_embeddings" / "embeddings.npy"


def sasrec_encoder(workdir: epath.PathLike, soft_tokens: int) -> tuple[VectorFeature, Encode]:
    """Loads the best SASRec of a work directory, as a vector feature and its encoder; for errors see `load.load`."""
    mesh = sharding.one_device()
    sasrec = model_loading.load(epath.Path(workdir) / checkpoints.SASREC, mesh=mesh)
    record, tokenizer = sasrec.record, item_histories.tokenizer(sasrec.record.sizes[0])

    @jax.jit
    def vectors(params: nnx.State, rows: Histories) -> jax.Array:
        return nnx.merge(sasrec.graphdef, params).vectors(rows).astype("float32")

    def encode(items: Sequence[np.ndarray]) -> np.ndarray:
        size = item_histories.batch_size(len(items))
        rows = item_histories.batch(items, tokenizer, record.max_history, record.causal, size)
        with jax.set_mesh(mesh):  # not the mesh of a training that calls this
            return np.asarray(vectors(sasrec.params, rows))[: len(items)]

    return VectorFeature(SEQUENTIAL, record.model["width"], soft_tokens, checkpoints.fingerprint(sasrec.params)), encode
