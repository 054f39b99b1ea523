"""A start from the content of items: codes and words begin beside the items that have them.

Semantic IDs are learned from item embeddings, which hold much of what titles say. A model whose embedding tables are
drawn at random must find both again from examples, one code and one word at a time. Here the row of a code starts as
the mean embedding of the items that have the code, and that of a word as the mean of those whose text has it: what is
asked for and what answers it lie close before the first step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse

from genrec.models.recommender import Recommender
from genrec.semantic_ids.codes import SemanticIds

# Of a row's length; the rest stays as drawn, so that words or codes of the same items can be told apart.
CONTENT, DRAWN = 0.9, (1 - 0.9**2) ** 0.5


class Content(NamedTuple):
    """What rows start as. The root mean square of a table is 1; rows of which nothing is known are 0."""

    codes: list[np.ndarray]  # of each learned level, float32[codes, width]
    pieces: np.ndarray  # float32[pieces, width]


def summarize(
    vectors: np.ndarray, semantic_ids: SemanticIds, texts: Sequence[np.ndarray], pieces: int, width: int, seed: int
) -> Content:
    """The content of codes and pieces, from item embeddings float32[items, any width] and the pieces of each text."""
    vectors = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # ascending
    axes = axes[:, ::-1][:, :width]
    # Principal components, turned so that each number of a row, and each head that reads some of them, has a like part.
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, axes.shape[1])))[0].T
    vectors = vectors @ (axes @ turn).astype(np.float32)

    codes, residuals = [], vectors
    # A code of a level is what is left of its items by the levels before. The last level only tells items apart.
    for level, size in enumerate(semantic_ids.sizes[:-1]):
        own = semantic_ids.codes[:, level]
        means = _means(own, np.arange(len(own)), residuals, size)
        residuals = residuals - means[own]
        codes.append(_scaled(means))

    found = [np.unique(text) for text in texts]
    items = np.repeat(np.arange(len(found)), [len(text) for text in found])
    # As if one more item, an average one, had the word: of a word that was seen once little is known.
    words = _means(np.concatenate(found), items, vectors, pieces, more=1)
    return Content(codes, _scaled(words))


def _means(groups: np.ndarray, rows: np.ndarray, vectors: np.ndarray, count: int, more: int = 0) -> np.ndarray:
    """float32[count, width]: the mean of the vectors of each group, with `more` zeros; 0 of a group without any.

    Group `groups[i]` has the vector of row `rows[i]`.
    """
    ones = np.ones(len(groups), np.float32)
    has = scipy.sparse.csr_matrix((ones, (groups, rows)), shape=(count, len(vectors)))
    sizes = np.bincount(groups, minlength=count) + more
    return ((has @ vectors) / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def _scaled(rows: np.ndarray) -> np.ndarray:
    """With a root mean square of 1 over the rows that are not 0."""
    known = rows[rows.any(axis=1)]
    return rows / np.sqrt(np.mean(known**2)) if len(known) else rows


def start_from(model: Recommender, content: Content) -> None:
    """Gives the rows of codes and pieces, as they were drawn, their content."""
    table = np.array(model.embedding[...], np.float32)
    for level, codes in enumerate(content.codes):
        rows = slice(model.offsets[level], model.offsets[level] + len(codes))
        table[rows] = _with_content(table[rows], codes)
        output = model.output[level]
        of_output = model.cfg.width**-0.5 * codes  # as long as rows are drawn there
        output[...] = jnp.asarray(_with_content(np.asarray(output[...], np.float32), of_output), output.dtype)
    pieces = slice(model.first_piece, model.first_piece + len(content.pieces))
    table[pieces] = _with_content(table[pieces], content.pieces)
    model.embedding[...] = jnp.asarray(table, model.embedding.dtype)


def _with_content(drawn: np.ndarray, content: np.ndarray) -> np.ndarray:
    known = content.any(axis=1, keepdims=True)
    return np.where(known, CONTENT * content + DRAWN * drawn, drawn)
