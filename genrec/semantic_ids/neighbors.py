"""The nearest of many vectors by cosine, in blocks: exact, in bounded memory, also of memory-mapped vectors."""

import numpy as np

BLOCK_ROWS = 1 << 14  # vectors that are compared at a time
QUERIES = 1 << 10  # vectors whose neighbors are sought at a time
MANY = 32  # candidates of a block for each neighbor, beyond which they are reduced before they are sorted


def nearest(
    queries: np.ndarray, vectors: np.ndarray, count: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `count` vectors of the largest cosine with each query: rows int64[n, count], cosines [n, count].

    The nearest come first; of equally near ones, the first row.

    Args:
      queries: float32[n, width].
      vectors: float32[rows, width].
      count: at most the number of rows, less one with `own`.
      own: int[n], a row for each query that is left out: its own.
    """
    rows, cosines = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for start in range(0, len(queries), QUERIES):
        some = slice(start, start + QUERIES)
        rows[some], cosines[some] = _nearest(_unit(queries[some]), vectors, count, None if own is None else own[some])
    return rows, cosines


def _nearest(
    queries: np.ndarray, vectors: np.ndarray, count: int, own: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    rows, cosines = np.zeros((len(queries), count), np.int64), np.full((len(queries), count), -np.inf, np.float32)
    if not count:
        return rows, cosines
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = queries @ _unit(vectors[start : start + BLOCK_ROWS]).T
        if own is not None:
            within = np.flatnonzero((own >= start) & (own < start + block.shape[1]))
            block[within, own[within] - start] = -np.inf
        better = block > cosines[:, -1:]  # of those as near as the last one, the earlier row stays
        if count < block.shape[1] and np.count_nonzero(better) > MANY * cosines.size:
            better &= block >= np.partition(block, -count, axis=1)[:, -count, None]
        query, row = np.nonzero(better)
        if len(query):
            found = np.concatenate([cosines.ravel(), block[query, row]])
            places = np.concatenate([rows.ravel(), start + row])
            query = np.concatenate([np.repeat(np.arange(len(queries)), count), query])
            # Stable, and found earlier means an earlier row. The first of each query are kept.
            order = np.lexsort((-found, query))
            first = np.searchsorted(query[order], np.arange(len(queries)))
            kept = order[first[:, None] + np.arange(count)]
            rows, cosines = places[kept], found[kept]
    return rows, cosines


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
