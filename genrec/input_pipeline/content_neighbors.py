"""The nearest items by content: exact for catalogues of usual size, by inverted lists for large ones.

Inverted lists (Jégou et al., "Product quantization for nearest neighbor search", 2011, without the quantization): items
are clustered, and those of a cluster are compared with the items of the clusters nearest to it alone. Work and memory
grow like items^1.5 and items; comparing all pairs takes an hour at a million items.
"""

from typing import NamedTuple

import numpy as np
from absl import logging
from sklearn.cluster import MiniBatchKMeans

from genrec.progress import progress

EXACT_ITEMS = 50_000  # up to so many, all pairs are compared
PROBES = 12  # clusters that are searched for the items of each
ROWS_PER_CLUSTER = 64  # items per cluster in the sample that clusters are learned from
LARGEST_CLUSTER = 4  # times the mean
GROUP = 16  # columns of which the largest value is taken first
BLOCK = 1024  # items that are compared at a time


class Neighbors(NamedTuple):
    """Nearest other items of each item, in no particular order."""

    items: np.ndarray  # int32[items, neighbors]
    cosines: np.ndarray  # float32[items, neighbors]


def nearest(embeddings: np.ndarray, neighbors: int, exact_items: int = EXACT_ITEMS, probes: int = PROBES) -> Neighbors:
    """Returns the `neighbors` items of the largest cosine with each item of float32[items, width].

    There are none without content, of width 0. Beyond `exact_items` items, neighbors are those within the `probes`
    clusters nearest to the item's own.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))[:, None]
    vectors = (embeddings / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    neighbors = min(neighbors, len(vectors) - 1) if vectors.shape[1] else 0
    found = Neighbors(np.zeros((len(vectors), neighbors), np.int32), np.zeros((len(vectors), neighbors), np.float32))
    if neighbors < 1:
        return found
    every = np.arange(len(vectors), dtype=np.int32)
    if len(vectors) <= exact_items:
        _search(vectors, every, every, found)
        return found
    members, clusters_near = _clusters(vectors, neighbors, probes)
    logging.info("content neighbors of %d items: within %d of %d clusters", len(vectors), probes, len(members))
    for number, own in enumerate(progress(members, "content neighbors")):
        near = clusters_near[number]
        # The own cluster comes first, as `_search` wants it.
        _search(vectors, own, np.concatenate([own, *(members[one] for one in near)]), found)
    return found


def _search(vectors: np.ndarray, rows: np.ndarray, candidates: np.ndarray, found: Neighbors) -> None:
    """Writes the neighbors of the items `rows` among `candidates`, which begin with `rows`, into `found`."""
    neighbors = found.items.shape[1]
    others = vectors[candidates].T
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        cosines = vectors[some] @ others
        own = np.arange(len(some))
        cosines[own, start + own] = -np.inf
        best = _largest(cosines, neighbors)
        found.items[some], found.cosines[some] = candidates[best], np.take_along_axis(cosines, best, axis=1)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the columns int[rows, count] of the largest values of each row, in no particular order.

    The largest values of `count` groups of columns are at least as many as are sought: only values as large as the
    least of them can be, and few are, so that a tenth of the time of `np.argpartition` is enough.
    """
    rows, columns = values.shape
    width = columns // GROUP
    if width < 2 * count:
        return np.argpartition(values, columns - count, axis=1)[:, columns - count :]
    maxima = values[:, :width].copy()
    for start in range(width, width * GROUP, width):
        np.maximum(maxima, values[:, start : start + width], out=maxima)
    least = np.partition(maxima, width - count, axis=1)[:, width - count]
    row, column = np.divmod(np.flatnonzero(values >= least[:, None]), columns)
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    left, of_left = np.full((rows, counts.max()), -np.inf, values.dtype), np.zeros((rows, counts.max()), np.int64)
    left[row, place], of_left[row, place] = values[row, column], column
    best = np.argpartition(left, left.shape[1] - count, axis=1)[:, left.shape[1] - count :]
    return np.take_along_axis(of_left, best, axis=1)


def _clusters(vectors: np.ndarray, neighbors: int, probes: int) -> tuple[list[np.ndarray], list[list[int]]]:
    """Returns the items of each cluster, and the other clusters near each, the nearest first.

    As many as `probes` less the own, more where their items are fewer than twice the neighbors.
    """
    count = round(len(vectors) ** 0.5)
    sample = np.random.default_rng(0).permutation(len(vectors))[: count * ROWS_PER_CLUSTER]
    kmeans = MiniBatchKMeans(count, batch_size=8192, n_init=1, max_iter=20, random_state=0).fit(vectors[sample])
    centers = kmeans.cluster_centers_.astype(np.float32)
    cluster = np.concatenate(
        [kmeans.predict(vectors[start : start + BLOCK * 16]) for start in range(0, len(vectors), BLOCK * 16)]
    )
    order = np.argsort(cluster, kind="stable").astype(np.int32)
    members, center_of = [], []
    for center, items in enumerate(np.split(order, np.cumsum(np.bincount(cluster, minlength=count))[:-1])):
        # In pieces if there are many, such as items without any content: no search may be quadratic.
        for start in range(0, len(items), count * LARGEST_CLUSTER):
            members.append(items[start : start + count * LARGEST_CLUSTER])
            center_of.append(center)
    centers, sizes = centers[center_of], np.array([len(one) for one in members])
    near = []
    lengths = (centers**2).sum(axis=1)
    for own, distances in enumerate(lengths - 2 * centers @ centers.T):  # squared, less what is equal in a row
        ranked = [int(one) for one in np.argsort(distances, kind="stable") if one != own]
        enough = int(np.searchsorted(sizes[own] + np.cumsum(sizes[ranked]), 2 * neighbors + 1)) + 1
        near.append(ranked[: max(probes - 1, enough)])
    return members, near
