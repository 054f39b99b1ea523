"""Item vectors from behavior: items are near each other when the same users choose them one after the other."""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
from absl import logging
from sklearn.utils.extmath import randomized_svd

from genrec.data.dataset import Sequence as Record
from genrec.data.dataset import Sequences

WINDOW = 4  # items of a sequence at most this far apart count as a pair, with weight 1 / distance
RECORDS_AT_ONCE = 20_000


def embeddings(counts: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """float32[items, width] with rows of length 1, from `count_pairs`; an item without neighbors has a row of zeros.

    Truncated SVD of the positive pointwise mutual information of item pairs (Levy and Goldberg 2014, "Neural word
    embedding as implicit matrix factorization"; singular values enter by their square root).
    """
    matrix, items = positive_pmi(counts), counts.shape[0]
    if items < width:
        logging.warning("embeddings.cooccurrence_width is reduced from %d to %d, the number of items", width, items)
    vectors, values, _ = randomized_svd(matrix, min(width, items), n_iter=7, random_state=0)
    vectors = vectors * np.sqrt(values)
    # Rows of zeros come out of the decomposition as rounding errors, which must not be blown up to length 1.
    vectors[np.diff(matrix.indptr) == 0] = 0
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def count_pairs(sequences: Sequences, items: int) -> scipy.sparse.csr_matrix:
    """Symmetric float[items, items]: how often two items stand within `WINDOW` of each other, near pairs count more."""
    counts = scipy.sparse.csr_matrix((items, items), dtype=np.float64)
    for rows in blocks(len(sequences)):
        for pairs in pairs_by_distance(sequences.read(rows), items):
            counts += pairs
    return symmetric(counts)


def symmetric(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """The counts of pairs in either order, from those of pairs in the order of time."""
    return (counts + counts.T).tocsr()


def blocks(records: int) -> list[range]:
    """Rows of the records that are counted together."""
    return [range(start, min(start + RECORDS_AT_ONCE, records)) for start in range(0, records, RECORDS_AT_ONCE)]


def pairs_by_distance(records: Sequence[Record], items: int) -> Iterator[scipy.sparse.csr_matrix]:
    """For each distance up to `WINDOW` float[items, items]: how often an item is so far before another, weighted."""
    chosen = np.concatenate([record.items for record in records])
    owner = np.repeat(np.arange(len(records)), [len(record.items) for record in records])
    for distance in range(1, WINDOW + 1):
        first, second = chosen[:-distance], chosen[distance:]
        pair = (owner[:-distance] == owner[distance:]) & (first != second)
        weights = np.full(pair.sum(), 1 / distance)
        yield scipy.sparse.coo_matrix((weights, (first[pair], second[pair])), (items, items)).tocsr()


def positive_pmi(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """max(0, log(p(i, j) / (p(i) p(j)))) for symmetric counts [items, items]."""
    pairs = counts.tocoo()
    margin = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(pairs.data * margin.sum() / (margin[pairs.row] * margin[pairs.col]))
    keep = information > 0
    return scipy.sparse.csr_matrix((information[keep], (pairs.row[keep], pairs.col[keep])), counts.shape)
