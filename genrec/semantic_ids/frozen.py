"""Frozen codebooks of a work directory in the form of a bundle: what gives new items their vectors and codes.

The same vectors and codes as `growth.assign` gives, without scikit-learn, Flax, or the texts of the old items.
"""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from genrec import artifacts
from genrec import config as config_lib
from genrec.data.dataset import Dataset
from genrec.semantic_ids import embed, encoders, residual_kmeans, rqvae, tfidf, tokenize
from genrec.semantic_ids.codes import FrozenCodebooks


def load(workdir: epath.PathLike, dataset: Dataset) -> FrozenCodebooks | None:
    """Loads the codebooks of a work directory; None if they cannot give codes to new items.

    That is where items are embedded by what users chose with them alone (embeddings.source=cooccurrence), and where
    semantic IDs were grown: then the vocabulary of the texts is that of an ancestor.
    """
    workdir = epath.Path(workdir)
    made = artifacts.read(workdir / "item_embeddings", embed.KIND)
    settings = dict(made.config)
    if settings["source"] == "cooccurrence" or "parent" in made.inputs:
        return None
    config, vectors = config_lib.Embeddings(**settings), embed.load(workdir / "item_embeddings")
    arrays: dict[str, np.ndarray] = {}
    behavior = min(config.cooccurrence_width, len(vectors)) if config.cooccurrence_weight else 0
    if behavior:
        arrays["vectors"] = vectors
    if config.source == "tfidf":
        known, weighed = tfidf.of_texts(dataset.catalogue.texts)
        projection = encoders.projection(weighed, config.width)
        terms = "\n".join(known.terms.to_pylist()).encode()  # words and pairs of words have no line break
        arrays |= {
            "terms": np.frombuffer(terms, np.uint8),
            "idf": known.idf.astype(np.float32),
            "components": projection.components_.astype(np.float32),
        }
    quantizer = tokenize.load_quantizer(workdir / "semantic_ids")
    books = tuple(jnp.asarray(book) for book in quantizer.codebooks)

    def quantize(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        if isinstance(quantizer, rqvae.LearnedRqvae):
            rows = nnx.merge(quantizer.graphdef, quantizer.params).encoder((rows - quantizer.mean) / quantizer.scale)
        found, residual = residual_kmeans.quantize(rows, books, quantizer.beams), rows
        for level, book in enumerate(books[:-1]):
            residual -= book[found[:, level]]
        return found[0], residual_kmeans.squared_distances(residual, books[-1])[0]

    settings["content_width"] = vectors.shape[1] - behavior
    return FrozenCodebooks(settings, arrays, quantize, vectors.shape[1])
