"""Stage `embed`: catalogue -> `item_embeddings/`, one vector per item that says what the item is.

The content part comes from given vectors or from the items' texts. An optional second part says which items the same
users chose one after the other; it is read from the training split only, so that no test interaction shapes an ID.
"""

import numpy as np
import pyarrow.compute as pc
from absl import logging
from etils import epath
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec import artifacts
from genrec import config as config_lib
from genrec.data.dataset import Catalogue, Dataset
from genrec.semantic_ids import codes, cooccurrence

KIND = "item_embeddings"
FILE = "embeddings.npy"
MAX_TERMS = 100_000  # TF-IDF keeps the most frequent words and pairs of words


class EmbeddingError(ValueError):
    """Item embeddings cannot be made. The message says why and what to do."""


def embed(config: config_lib.Embeddings, dataset_path: epath.PathLike, path: epath.PathLike) -> None:
    """Writes float32[items, width] of the dataset's catalogue into `path`, unless it is up to date.

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
        embeddings = content(config, dataset.catalogue)
        if config.cooccurrence_weight:
            together = cooccurrence.embeddings(
                dataset.split("train"), len(dataset.catalogue), config.cooccurrence_width
            )
            embeddings = np.concatenate([embeddings, np.float32(config.cooccurrence_weight) * together], axis=1)
        codes.save_array(draft.path / FILE, embeddings)
        logging.info("embedded %d items in %d dimensions (%s)", *embeddings.shape, config.source)


def load(path: epath.PathLike) -> np.ndarray:
    """float32[items, width] of the artifact in `path`; raises `ArtifactError` when there is none."""
    artifacts.read(path, KIND)
    return codes.load_array(epath.Path(path) / FILE)


def content(config: config_lib.Embeddings, catalogue: Catalogue) -> np.ndarray:
    """float32[items, width] with rows of length 1 (or 0, for an item without any known word)."""
    match config.source:
        case "vectors":
            vectors = _given_vectors(config, catalogue)
        case "tfidf":
            vectors = tfidf(catalogue.texts, config.width)
        case "sentence_transformers":
            vectors = sentence_vectors(catalogue.texts, config.sentence_model)
        case other:
            raise EmbeddingError(
                f"embeddings.source is {other!r}; it can be 'tfidf', 'sentence_transformers' or 'vectors'."
            )
    vectors = np.asarray(vectors, np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise EmbeddingError(
            f"{len(broken)} of {len(vectors)} item vectors hold NaN or infinity, the first of them that of item "
            f"{catalogue.item_ids[broken[0]]!r}. Correct them, or leave those items out."
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if empty := int((norms == 0).sum()):
        logging.warning("%d of %d items have an all-zero vector and will share a semantic ID prefix", empty, len(norms))
    return vectors / np.where(norms > 0, norms, 1)


def tfidf(texts: list[str], width: int) -> np.ndarray:
    """float32[texts, width]: words and word pairs weighted by rarity, projected on the main directions (LSA)."""
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), max_features=MAX_TERMS, strip_accents="unicode", dtype=np.float32
    )
    try:
        terms = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise EmbeddingError(
            "The items' texts hold no words. Check data.text_fields, or give vectors (embeddings.source=vectors)."
        ) from error
    possible = min(width, *terms.shape)
    if possible < width:
        logging.warning("embeddings.width is reduced from %d to %d: %d items, %d terms", width, possible, *terms.shape)
    return TruncatedSVD(possible, random_state=0).fit_transform(terms)


def sentence_vectors(texts: list[str], model: str) -> np.ndarray:
    """float32[texts, width] from a sentence encoder of the package sentence-transformers."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbeddingError(
            "embeddings.source=sentence_transformers needs a package that is not installed: "
            "pip install -e '.[sentences]'. The built-in embeddings.source=tfidf needs none."
        ) from error
    return SentenceTransformer(model).encode(texts, batch_size=64, show_progress_bar=True, convert_to_numpy=True)


def _given_vectors(config: config_lib.Embeddings, catalogue: Catalogue) -> np.ndarray:
    if config.vectors:
        vectors = codes.load_array(config.vectors)
        rows = catalogue.table["source_row"].to_numpy()  # the dataset may hold fewer items, in another order
        if vectors.ndim != 2 or len(vectors) <= rows.max():
            raise EmbeddingError(
                f"{config.vectors} has shape {vectors.shape}; the items file has at least {rows.max() + 1} items. "
                "It needs one row per item, in the order of that file."
            )
        return vectors[rows]
    if "vector" not in catalogue.table.column_names:
        raise EmbeddingError(
            "embeddings.source=vectors, but the items file had no column `vector` and embeddings.vectors "
            "names no .npy file."
        )
    column = catalogue.table["vector"].combine_chunks()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != lengths[0])
    if len(wrong) or not lengths[0] > 0:
        item = wrong[0] if len(wrong) else 0
        raise EmbeddingError(
            f"The vector of item {catalogue.item_ids[item]!r} has {lengths[item]} values, "
            f"the first item's {lengths[0]}."
        )
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
