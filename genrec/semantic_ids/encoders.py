"""Content encoders of items: TF-IDF with truncated SVD, sentence encoders, or given vectors."""

import functools
import io
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
import scipy.sparse
from absl import logging
from etils import epath
from sklearn.decomposition import TruncatedSVD

from genrec import config as config_lib
from genrec import files
from genrec.data.dataset import Catalogue
from genrec.errors import GenrecError, cut, shown
from genrec.semantic_ids import tfidf

BLOCK_ITEMS = 1 << 16  # items whose vectors are in memory at a time
FIT_TEXTS = 1 << 18  # texts from which the projection is learned; all texts are projected


class EmbeddingError(GenrecError):
    """Item embeddings that cannot be computed. The message says why and what to do."""


def content(config: config_lib.Embeddings, catalogue: Catalogue) -> Iterator[np.ndarray]:
    """Yields float32[items, width] in blocks of items: unit vectors, or zeros for an item without any known term.

    The width is 0 for the source cooccurrence, which has no content.
    """
    check_source(config, catalogue)
    if config.source == "tfidf":
        blocks = project(tfidf.of_texts(catalogue.texts)[1], config.width)
    else:
        blocks = (encode(config, part) for part in catalogue.blocks(BLOCK_ITEMS))
    return normalized(blocks, catalogue)


def cooccurrence_weight(config: config_lib.Embeddings) -> float:
    """Returns the weight of the collaborative part: 1 where it is the only one, 0 where there is none."""
    return 1.0 if config.source == "cooccurrence" else config.cooccurrence_weight


def check_source(config: config_lib.Embeddings, catalogue: Catalogue) -> None:
    """Raises EmbeddingError if given vectors do not fit the catalogue."""
    if config.source != "vectors":
        return
    if config.vectors:
        _check_file(config.vectors, catalogue)
        return
    if "vector" not in catalogue.table.column_names:
        raise EmbeddingError(
            "embeddings.source=vectors needs a column `vector` in the items file, or a .npy file in embeddings.vectors."
        )
    lengths = pc.list_value_length(catalogue.table["vector"]).to_numpy()
    wrong = np.flatnonzero(lengths != lengths[0])
    if len(wrong) or not lengths[0] > 0:
        item = wrong[0] if len(wrong) else 0
        raise EmbeddingError(
            f"The vector of item {shown(catalogue.item_ids[item])} has {lengths[item]} values, "
            f"the first item's {lengths[0]}."
        )


def _check_file(path: str, catalogue: Catalogue) -> None:
    """Raises EmbeddingError unless a file is .npy with a row of numbers for each item of the items file."""
    try:
        with epath.Path(path).open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            expected = file.tell() + math.prod(shape) * dtype.itemsize
            size = file.seek(0, io.SEEK_END)
    except (OSError, ValueError) as problem:
        raise EmbeddingError(
            f"embeddings.vectors: {path} is no .npy file ({cut(str(problem))}). "
            "Write one float32 array with numpy.save."
        ) from problem
    if dtype.kind not in "fiu":
        raise EmbeddingError(
            f"embeddings.vectors: {path} holds {cut(str(dtype))}, not numbers. Write one float32 array with numpy.save."
        )
    if size != expected:
        raise EmbeddingError(
            f"embeddings.vectors: {path} has {size:,} bytes instead of {expected:,}: it is damaged. Write it again."
        )
    items = catalogue.source_items
    least = int(catalogue.table["source_row"].to_numpy().max()) + 1
    if len(shape) != 2 or not shape[1] or (shape[0] < least if items is None else shape[0] != items):
        raise EmbeddingError(
            f"embeddings.vectors: {path} has the shape {shape}; the items file has "
            f"{f'at least {least:,}' if items is None else f'{items:,}'} items. Give one row per item, in the order of "
            "that file."
        )


def encode(config: config_lib.Embeddings, catalogue: Catalogue) -> np.ndarray:
    """Returns float[items, width] of the sources that encode each item alone, for a catalogue or a part of it."""
    if config.source == "cooccurrence":
        return np.zeros((len(catalogue), 0), np.float32)
    if config.source == "sentence_transformers":
        return sentence_vectors(catalogue.texts, config.sentence_model)
    if config.vectors:
        return files.load_rows(config.vectors, catalogue.table["source_row"].to_numpy())
    column = catalogue.table["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def normalized(blocks: Iterable[np.ndarray], catalogue: Catalogue) -> Iterator[np.ndarray]:
    """Yields float32[items, width] in blocks: the vectors of a catalogue's items, brought to unit length.

    Raises EmbeddingError for numbers that are not finite.
    """
    start, empty, broken, first = 0, 0, 0, 0
    for block in blocks:
        vectors = np.asarray(block, np.float32)
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong) and not broken:
            first = start + int(wrong[0])
        start, broken = start + len(vectors), broken + len(wrong)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        empty += int((norms == 0).sum()) if vectors.shape[1] else 0
        yield vectors / np.where(norms > 0, norms, 1)
    if broken:
        raise EmbeddingError(
            f"{broken} of {start} item vectors have NaN or infinity, first that of item "
            f"{shown(catalogue.item_ids[first])}. Correct the vectors or remove the items."
        )
    if empty:
        logging.warning("%d of %d items have an all-zero vector and will share a semantic ID prefix", empty, start)


def project(terms: scipy.sparse.csr_matrix, width: int) -> Iterator[np.ndarray]:
    """Yields float32[texts, width] in blocks: a truncated SVD of weighted terms float32[texts, terms] (LSA)."""
    fitted = projection(terms, width)
    for start in range(0, terms.shape[0], BLOCK_ITEMS):
        yield fitted.transform(terms[start : start + BLOCK_ITEMS])


def projection(terms: scipy.sparse.csr_matrix, width: int) -> TruncatedSVD:
    """Fits a truncated SVD to weighted terms float32[texts, terms], of at most `FIT_TEXTS` texts.

    Raises EmbeddingError if there is no term.
    """
    if not terms.shape[1]:
        raise EmbeddingError(
            "The items' texts have no words. Check data.text_fields, give vectors (embeddings.source=vectors), "
            "or use what users chose alone (embeddings.source=cooccurrence)."
        )
    possible = min(width, *terms.shape)
    if possible < width:
        logging.warning("embeddings.width is reduced from %d to %d: %d items, %d terms", width, possible, *terms.shape)
    if terms.shape[0] > FIT_TEXTS:
        terms = terms[np.sort(np.random.default_rng(0).choice(terms.shape[0], FIT_TEXTS, replace=False))]
    return TruncatedSVD(possible, random_state=0).fit(terms)


def sentence_vectors(texts: list[str], model: str) -> np.ndarray:
    """Returns float32[texts, width] of a sentence encoder of the package sentence-transformers."""
    return _encoder(model).encode(texts, batch_size=64, show_progress_bar=True, convert_to_numpy=True)


@functools.lru_cache(maxsize=1)  # a Beam worker encodes many blocks
def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbeddingError(
            "embeddings.source=sentence_transformers needs a package that is not installed: "
            "pip install -e '.[sentences]'. The built-in embeddings.source=tfidf needs none."
        ) from error
    return SentenceTransformer(model)
