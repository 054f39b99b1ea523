"""Initialization of the embedding tables from item embeddings.

Semantic IDs are learned from item embeddings, which hold much of the meaning of titles. A model with random embedding
tables must learn both again from examples, one code and one word at a time. Here the row of a code is initialized to
the mean embedding of the items that have the code, and that of a piece to the mean of the items whose text has it: a
prompt and the items that fulfill it are close before the first step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from genrec.models.recommender import Recommender
from genrec.semantic_ids.codes import SemanticIds

# Shares of a row's length; the random part separates pieces or codes of the same items.
CONTENT, RANDOM = 0.9, (1 - 0.9**2) ** 0.5


class Content(NamedTuple):
    """Initial rows of embedding tables, each table with a root mean square of 1; rows without content are 0."""

    codes: list[np.ndarray]  # for each learned level, float32[codes, width]
    pieces: np.ndarray  # float32[pieces, width]


def compute_content(
    vectors: np.ndarray, semantic_ids: SemanticIds, texts: Sequence[np.ndarray], pieces: int, width: int, seed: int
) -> Content:
    """Returns the content, from item embeddings float32[items, any width] and the pieces int[n] of each item's text."""
    vectors = vectors - vectors.mean(axis=0, dtype=np.float64).astype(vectors.dtype)  # float32 sums drift
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # ascending
    axes = axes[:, ::-1][:, :width]
    # Principal components, rotated at random so that all dimensions, and all heads, get equal parts.
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, axes.shape[1])))[0].T
    vectors = vectors @ (axes @ rotation).astype(np.float32)

    codes, residuals = [], vectors
    # A code is the mean residual of its items after the levels before. The last level only separates collisions.
    for level, size in enumerate(semantic_ids.sizes[:-1]):
        own = semantic_ids.codes[:, level]
        means = _means(own, np.arange(len(own)), residuals, size)
        residuals = residuals - means[own]
        codes.append(_scaled(means))

    found = [np.unique(text) for text in texts]
    items = np.repeat(np.arange(len(found)), [len(text) for text in found])
    # As if one more item, an average one, had the piece: shrinks the means of rare pieces.
    words = _means(np.concatenate(found), items, vectors, pieces, more=1)
    return Content(codes, _scaled(words))


def _means(groups: np.ndarray, rows: np.ndarray, vectors: np.ndarray, count: int, more: int = 0) -> np.ndarray:
    """Returns float32[count, width]: the mean vector of each group and `more` zeros; 0 for an empty group.

    Row `rows[i]` of `vectors` is a member of group `groups[i]`.
    """
    ones = np.ones(len(groups))  # float64, in which the product is summed: a common piece is in millions of items
    has = scipy.sparse.csr_matrix((ones, (groups, rows)), shape=(count, len(vectors)))
    sizes = np.bincount(groups, minlength=count) + more
    return ((has @ vectors) / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def _scaled(rows: np.ndarray) -> np.ndarray:
    """Scales rows to a root mean square of 1 over those that are not 0."""
    filled = rows[rows.any(axis=1)]
    return rows / np.sqrt(np.mean(filled**2)) if len(filled) else rows


def initialize(model: Recommender, content: Content) -> None:
    """Mixes content into the randomly initialized rows of codes and pieces."""
    table = np.array(model.embedding[...], np.float32)
    for level, codes in enumerate(content.codes):
        rows = slice(model.offsets[level], model.offsets[level] + len(codes))
        table[rows] = _with_content(table[rows], codes)
        output = model.output[level]
        scaled = model.cfg.width**-0.5 * codes  # the scale of output rows
        output[...] = jnp.asarray(_with_content(np.asarray(output[...], np.float32), scaled), output.dtype)
    pieces = slice(model.first_piece, model.first_piece + len(content.pieces))
    table[pieces] = _with_content(table[pieces], content.pieces)
    model.embedding[...] = jnp.asarray(table, model.embedding.dtype)


def _with_content(drawn: np.ndarray, content: np.ndarray) -> np.ndarray:
    has_content = content.any(axis=1, keepdims=True)
    return np.where(has_content, CONTENT * content + RANDOM * drawn, drawn)
