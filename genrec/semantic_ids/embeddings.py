"""Stage `embed`: catalogue -> `item_embeddings/`, one vector per item that says what the item is.

The content part comes from given vectors or from the items' texts. An optional second part says which items the same
users chose one after the other; it is read from the training split only, so that no test interaction shapes an ID.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import scipy.sparse
from absl import logging
from etils import epath
from sklearn.decomposition import TruncatedSVD

from genrec import artifacts
from genrec import config as config_lib
from genrec.data.beam_runner import BeamRunner
from genrec.data.dataset import Catalogue, Dataset
from genrec.semantic_ids import codes, cooccurrence, tfidf

KIND = "item_embeddings"
FILE = "embeddings.npy"


class EmbeddingError(ValueError):
    """Item embeddings cannot be made. The message says why and what to do."""


def embed(
    config: config_lib.Embeddings,
    dataset_path: epath.PathLike,
    path: epath.PathLike,
    runner: BeamRunner | None = None,
) -> None:
    """Writes float32[items, width] of the dataset's catalogue into `path`, unless it is up to date.

    Args:
      config: Of the stage.
      dataset_path: What `prepare` wrote.
      path: A local folder or one in a bucket.
      runner: Counts and encodes on Apache Beam; the result is the same but for rounding.

    Raises:
      EmbeddingError: for vectors that do not fit the catalogue, texts without words, a missing package.
      ArtifactError: when there is no dataset.
    """
    dataset = Dataset(dataset_path)
    inputs = {"dataset": dataset.fingerprint}
    if config.source == "vectors" and config.vectors:
        if not epath.Path(config.vectors).exists():
            raise EmbeddingError(f"embeddings.vectors: there is no file {config.vectors}.")
        inputs["vectors"] = artifacts.hash_file(config.vectors)
    recipe = artifacts.hash_of(KIND, config, inputs)
    if artifacts.up_to_date(path, KIND, recipe):
        logging.info("%s is up to date", path)
        return
    with artifacts.writing(path, KIND, recipe, config=config, inputs=inputs) as draft:
        if runner:
            from genrec.semantic_ids import beam_embed  # which imports this module

            embeddings, pairs = beam_embed.content_and_pairs(config, dataset, draft.path, runner)
        else:
            embeddings, pairs = content(config, dataset.catalogue), None
            if config.cooccurrence_weight:
                pairs = cooccurrence.count_pairs(dataset.split("train"), len(dataset.catalogue))
        if pairs is not None:
            together = cooccurrence.embeddings(pairs, config.cooccurrence_width)
            embeddings = np.concatenate([embeddings, np.float32(config.cooccurrence_weight) * together], axis=1)
        codes.save_array(draft.path / FILE, embeddings)
        logging.info("embedded %d items in %d dimensions (%s)", *embeddings.shape, config.source)


def load(path: epath.PathLike) -> np.ndarray:
    """float32[items, width] of the artifact in `path`; raises `ArtifactError` when there is none."""
    artifacts.read(path, KIND)
    return codes.load_array(epath.Path(path) / FILE)


def content(config: config_lib.Embeddings, catalogue: Catalogue) -> np.ndarray:
    """float32[items, width] with rows of length 1 (or 0, for an item without any known word)."""
    check_source(config, catalogue)
    if config.source == "tfidf":
        counts = tfidf.count(catalogue.texts)
        vectors = project(tfidf.weigh(counts, tfidf.vocabulary(tfidf.frequencies(counts))), config.width)
    else:
        vectors = encode(config, catalogue)
    return normalized(vectors, catalogue.item_ids)


def check_source(config: config_lib.Embeddings, catalogue: Catalogue) -> None:
    """Raises `EmbeddingError` when the source is unknown or its vectors do not fit the catalogue."""
    if config.source not in ("tfidf", "sentence_transformers", "vectors"):
        raise EmbeddingError(
            f"embeddings.source is {config.source!r}; it can be 'tfidf', 'sentence_transformers' or 'vectors'."
        )
    if config.source != "vectors":
        return
    if config.vectors:
        shape = codes.array_shape(config.vectors)
        rows = catalogue.table["source_row"].to_numpy()
        if len(shape) != 2 or shape[0] <= rows.max():
            raise EmbeddingError(
                f"{config.vectors} has shape {shape}; the items file has at least {rows.max() + 1} items. "
                "It needs one row per item, in the order of that file."
            )
        return
    if "vector" not in catalogue.table.column_names:
        raise EmbeddingError(
            "embeddings.source=vectors, but the items file had no column `vector` and embeddings.vectors "
            "names no .npy file."
        )
    lengths = pc.list_value_length(catalogue.table["vector"]).to_numpy()
    wrong = np.flatnonzero(lengths != lengths[0])
    if len(wrong) or not lengths[0] > 0:
        item = wrong[0] if len(wrong) else 0
        raise EmbeddingError(
            f"The vector of item {catalogue.item_ids[item]!r} has {lengths[item]} values, "
            f"the first item's {lengths[0]}."
        )


def encode(config: config_lib.Embeddings, catalogue: Catalogue) -> np.ndarray:
    """float[items, width]: the given vectors, or those of the sentence encoder, of a catalogue or a part of it."""
    if config.source == "sentence_transformers":
        return sentence_vectors(catalogue.texts, config.sentence_model)
    if config.vectors:
        rows = catalogue.table["source_row"].to_numpy()  # rising: the dataset may hold fewer items than the file
        start = rows.min()
        return codes.load_rows(config.vectors, start, rows.max() + 1)[rows - start]
    column = catalogue.table["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def normalized(vectors: np.ndarray, item_ids: Sequence[str]) -> np.ndarray:
    """float32[items, width], rows divided by their length; raises `EmbeddingError` for numbers that are not finite."""
    vectors = np.asarray(vectors, np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise EmbeddingError(
            f"{len(broken)} of {len(vectors)} item vectors hold NaN or infinity, the first of them that of item "
            f"{item_ids[broken[0]]!r}. Correct them, or leave those items out."
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if empty := int((norms == 0).sum()):
        logging.warning("%d of %d items have an all-zero vector and will share a semantic ID prefix", empty, len(norms))
    return vectors / np.where(norms > 0, norms, 1)


def project(terms: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """float32[texts, width]: weighted terms (float32[texts, terms]) on their main directions (LSA)."""
    return projection(terms, width).transform(terms)


def projection(terms: scipy.sparse.csr_matrix, width: int) -> TruncatedSVD:
    """The main directions of weighted terms float32[texts, terms]."""
    if not terms.shape[1]:
        raise EmbeddingError(
            "The items' texts hold no words. Check data.text_fields, or give vectors (embeddings.source=vectors)."
        )
    possible = min(width, *terms.shape)
    if possible < width:
        logging.warning("embeddings.width is reduced from %d to %d: %d items, %d terms", width, possible, *terms.shape)
    return TruncatedSVD(possible, random_state=0).fit(terms)


def sentence_vectors(texts: list[str], model: str) -> np.ndarray:
    """float32[texts, width] from a sentence encoder of the package sentence-transformers."""
    return _encoder(model).encode(texts, batch_size=64, show_progress_bar=True, convert_to_numpy=True)


@functools.lru_cache(maxsize=1)  # a worker encodes many blocks
def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbeddingError(
            "embeddings.source=sentence_transformers needs a package that is not installed: "
            "pip install -e '.[sentences]'. The built-in embeddings.source=tfidf needs none."
        ) from error
    return SentenceTransformer(model)
