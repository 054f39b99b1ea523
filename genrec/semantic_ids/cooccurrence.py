"""Item embeddings from co-occurrence: items that users choose shortly after each other lie close together."""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
from absl import logging
from sklearn.utils.extmath import randomized_svd

from genrec.data.dataset import Sequence as UserSequence
from genrec.data.dataset import Sequences

WINDOW = 4  # items of a sequence at most this far apart are a pair, which counts 1 / distance
BLOCK_SEQUENCES = 20_000


def embeddings(counts: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """Embeds counts of pairs as float32[items, width]: unit vectors, and zeros for an item without neighbors.

    Truncated SVD of the positive pointwise mutual information of item pairs (Levy and Goldberg 2014, "Neural word
    embedding as implicit matrix factorization"; singular values enter by their square root).
    """
    matrix, items = positive_pmi(counts), counts.shape[0]
    if items < width:
        logging.warning("embeddings.cooccurrence_width is reduced from %d to %d, the number of items", width, items)
    vectors, values, _ = randomized_svd(matrix, min(width, items), n_iter=7, random_state=0)
    vectors = vectors * np.sqrt(values)
    # The decomposition returns rounding errors for rows of zeros, which must not be normalized to length 1.
    vectors[np.diff(matrix.indptr) == 0] = 0
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def count_pairs(sequences: Sequences, items: int) -> scipy.sparse.csr_matrix:
    """Returns symmetric float[items, items]: how often two items are within `WINDOW`, weighted by 1 / distance."""
    counts = scipy.sparse.csr_matrix((items, items), dtype=np.float64)
    for rows in blocks(len(sequences)):
        for pairs in pairs_by_distance(sequences.read(list(rows)), items):
            counts += pairs
    return symmetric(counts)


def symmetric(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Returns the counts of unordered pairs, from those of pairs in order of time."""
    return (counts + counts.T).tocsr()


def blocks(sequences: int) -> list[range]:
    """Returns the row numbers of each block of sequences that are counted together."""
    return [range(start, min(start + BLOCK_SEQUENCES, sequences)) for start in range(0, sequences, BLOCK_SEQUENCES)]


def pairs_by_distance(sequences: Sequence[UserSequence], items: int) -> Iterator[scipy.sparse.csr_matrix]:
    """Yields float[items, items] for each distance up to `WINDOW`: weighted counts of item i that far before item j."""
    chosen = np.concatenate([sequence.items for sequence in sequences])
    owner = np.repeat(np.arange(len(sequences)), [len(sequence.items) for sequence in sequences])
    for distance in range(1, WINDOW + 1):
        first, second = chosen[:-distance], chosen[distance:]
        pair = (owner[:-distance] == owner[distance:]) & (first != second)
        weights = np.full(pair.sum(), 1 / distance)
        yield scipy.sparse.coo_matrix((weights, (first[pair], second[pair])), (items, items)).tocsr()


def positive_pmi(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Returns the positive PMI max(0, log(p(i, j) / (p(i) p(j)))) of symmetric counts [items, items]."""
    pairs = counts.tocoo()
    margin = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(pairs.data * margin.sum() / (margin[pairs.row] * margin[pairs.col]))
    keep = information > 0
    return scipy.sparse.csr_matrix((information[keep], (pairs.row[keep], pairs.col[keep])), counts.shape)
