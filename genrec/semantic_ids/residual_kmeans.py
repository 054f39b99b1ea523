"""Residual k-means: clusters the embeddings, then their residuals, level by level.

The codes of an item are its nearest center at each level; the sum of the centers approximates its embedding, better
with every level. It also initializes the codebooks of the RQ-VAE.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import logging
from jax.sharding import Mesh

from genrec import config as config_lib
from genrec import sharding
from genrec.progress import progress
from genrec.semantic_ids import cpu_clusters
from genrec.semantic_ids.codes import SemanticIdError

MAX_ITERATIONS = 60
TOLERANCE = 1e-4  # k-means stops when the mean squared error falls by less than this share
ROWS_PER_CODE = 320  # embeddings per code in the sample from which centers are learned; all embeddings are encoded
ROUNDS = 6  # of moves of centers to where they lower the error most
ROUND_ITERATIONS = 3  # of Lloyd's before each of them
SPLIT_GAIN = 0.08  # share of the error of a cluster that a second center is expected to save
SPLIT_OFFSET = 0.3  # of the two centers from that of the cluster they split, as a share of its radius
DISTANCES_AT_ONCE = 1 << 24  # elements of the largest intermediate array


class Quantizer(Protocol):
    """A learned residual quantizer."""

    @property
    def codebooks(self) -> list[np.ndarray]:
        """float32[codes, width] per level."""

    @property
    def beams(self) -> int:
        """Code sequences kept while an item is encoded, see `quantize`."""

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns int32[items, levels] for float32[items, width]."""

    def reconstruct(self, codes: np.ndarray, levels: int | None = None) -> np.ndarray:
        """Returns float32[items, width] for the first `levels` codes (default: all) of integers[items, levels]."""


@dataclasses.dataclass(frozen=True)
class ResidualCodebooks:
    """Quantizer that approximates an embedding by the sum of one cluster center per level."""

    codebooks: list[np.ndarray]
    mesh: Mesh | None = None  # the devices that share the items, by default one
    beams: int = 1  # see `quantize`

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        if cpu_clusters.fits(self.mesh or sharding.one_device()):
            return cpu_clusters.quantize(embeddings, self.codebooks, self.beams)
        books, largest = tuple(self.codebooks), self.beams * max(map(len, self.codebooks))
        return in_blocks(lambda block: quantize(block, books, self.beams), embeddings, largest, self.mesh)

    def reconstruct(self, codes: np.ndarray, levels: int | None = None) -> np.ndarray:
        levels = len(self.codebooks) if levels is None else levels
        vectors = np.zeros((len(codes), self.codebooks[0].shape[1]), np.float32)
        for level in range(levels):
            vectors += self.codebooks[level][codes[:, level]]
        return vectors


def in_blocks(
    function: Callable[[jax.Array], jax.Array], vectors: np.ndarray, elements: int, mesh: Mesh | None = None
) -> np.ndarray:
    """Returns function(vectors) for float32[items, width], computed in blocks of rows sharded over `mesh`.

    `function` maps rows to rows; `elements` is the size per row of its largest intermediate array, which limits blocks.
    """
    mesh = mesh or sharding.one_device()
    rows = _block_rows(elements, len(vectors), mesh)
    results = []
    for start in range(0, len(vectors), rows):
        block = np.asarray(vectors[start : start + rows], np.float32)
        # The last block is padded to the shape of the others, so that it needs no compilation.
        block = np.pad(block, ((0, rows - len(block)), (0, 0)))
        with jax.set_mesh(mesh):
            result = function(sharding.put(mesh, block, "items"))
        results.append(sharding.fetch(result)[: len(vectors) - start])
    return np.concatenate(results)


def learn(embeddings: np.ndarray, config: config_lib.SemanticIdLearning, mesh: Mesh | None = None) -> ResidualCodebooks:
    """Learns codebooks for float32[items, width]; the same seed gives the same codebooks.

    Items are sharded over `mesh`, by default one device. Raises SemanticIdError for sizes that do not suit the items.
    """
    check_sizes(len(embeddings), config.codes)
    residual, codebooks = sample(embeddings, config), []
    for level, size in enumerate(config.codes):
        book = kmeans(residual, size, (config.seed, level), f"k-means, level {level + 1} of {len(config.codes)}", mesh)
        codebooks.append(book)
        level_codes = ResidualCodebooks([book], mesh)
        residual = residual - level_codes.reconstruct(level_codes.encode(residual))
    return ResidualCodebooks(codebooks, mesh, config.encoding_beams)


def fitted_sizes(codes: Sequence[int], items: int) -> tuple[int, ...]:
    """Returns the codes of each level, at most the power of two that gives each code eight items; 4 are always left."""
    most = max(4, 2 ** int(np.log2(max(items, 8) / 8)))
    return tuple(min(size, most) for size in codes)


def check_sizes(items: int, codes: Sequence[int]) -> None:
    """Raises SemanticIdError unless every level has at least two codes and at most one per item."""
    if not codes or min(codes) < 2:
        raise SemanticIdError(f"semantic_ids.codes={tuple(codes)} must have at least one level, of at least 2 codes.")
    if max(codes) > items:
        advice = max(2, 2 ** round(np.log2(items) / 2))
        raise SemanticIdError(
            f"semantic_ids.codes asks for {max(codes)} codes at one level, but the catalogue has only {items} items. "
            f"Set fewer codes, for instance {(advice,) * max(2, len(codes) - 1)}."
        )


class Assignment(NamedTuple):
    """The nearest center of each point."""

    clusters: np.ndarray  # int32[points], the nearest center
    distances: np.ndarray  # float32[points], its squared distance
    others: np.ndarray  # float32[points], the squared distance of the second nearest center


def kmeans(
    points: np.ndarray, size: int, seed: int | Sequence[int], description: str = "k-means", mesh: Mesh | None = None
) -> np.ndarray:
    """Returns float32[size, width]: cluster centers of float32[points, width], which are sharded over `mesh`.

    Lloyd's iterations from points drawn at random. In between, centers that lower the error least move to split the
    clusters of the largest error (Patane and Russo 2001, "The enhanced LBG algorithm"). A center without points moves
    to one of the points that are farthest from their own center.
    """
    points = np.ascontiguousarray(points, np.float32)
    assign, random = assignment(points, size, mesh or sharding.one_device()), np.random.default_rng(seed)
    centers, previous = points[random.choice(len(points), size, replace=False)], np.inf
    for iteration in progress(range(ROUNDS * ROUND_ITERATIONS + MAX_ITERATIONS), description):
        found = assign(centers)
        error, centers = float(found.distances.mean(dtype=np.float64)), means(points, found, size)
        rounds, place = divmod(iteration, ROUND_ITERATIONS)
        if 0 < rounds <= ROUNDS and not place:
            centers = split_largest(points, centers, found, random)
        elif rounds > ROUNDS and previous - error <= TOLERANCE * error:
            break
        previous = error
    logging.info("%s: mean squared error %.5f", description, error)
    return centers


def assignment(points: np.ndarray, size: int, mesh: Mesh) -> Callable[[np.ndarray], Assignment]:
    """Returns the function that assigns float32[points, width] to centers float32[size, width], on the mesh."""
    if cpu_clusters.fits(mesh):
        return lambda centers: Assignment(*cpu_clusters.two_nearest(points, centers))
    rows = _block_rows(size, len(points), mesh)
    blocks = -(-len(points) // rows)
    padded = np.pad(points, ((0, blocks * rows - len(points)), (0, 0)))
    placed = sharding.put(mesh, padded.reshape(blocks, rows, -1), None, "items")

    def assign(centers: np.ndarray) -> Assignment:
        with jax.set_mesh(mesh):
            found = _two_nearest(centers, placed)
        return Assignment(*(sharding.fetch(array).reshape(-1)[: len(points)] for array in found))

    return assign


def means(points: np.ndarray, found: Assignment, size: int) -> np.ndarray:
    """Returns float32[size, width], the means of the clusters; for empty ones, the points farthest from their own."""
    members = scipy.sparse.csr_matrix(
        (np.ones(len(points), np.float32), found.clusters, np.arange(len(points) + 1)), shape=(len(points), size)
    )
    counts = np.bincount(found.clusters, minlength=size)
    centers = (members.T @ points / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    centers[empty] = points[np.argsort(-found.distances, kind="stable")[: len(empty)]]
    return centers


def split_largest(
    points: np.ndarray, centers: np.ndarray, found: Assignment, random: np.random.Generator
) -> np.ndarray:
    """Returns the centers float32[size, width], some of them moved to split the clusters of the largest error.

    A center moves if without it the error would grow by less than splitting is expected to save. `random` decides the
    directions in which clusters of points float32[points, width] are split.
    """
    size = len(centers)
    errors = np.bincount(found.clusters, found.distances, size)
    losses = np.bincount(found.clusters, found.others - found.distances, size)
    takers, givers = np.argsort(-errors, kind="stable"), np.argsort(losses, kind="stable")
    takers = takers[: min(np.count_nonzero(losses[givers] < SPLIT_GAIN * errors[takers]), size // 2)]
    givers = givers[~np.isin(givers, takers)][: len(takers)]
    moved = losses[givers] < SPLIT_GAIN * errors[takers]
    givers, takers = givers[moved], takers[moved]
    members, order = np.zeros(size, np.int64), random.permutation(len(points))
    members[found.clusters[order]] = order  # one point of each cluster, at random
    offsets = SPLIT_OFFSET * (points[members[takers]] - centers[takers])
    centers = centers.copy()
    centers[givers], centers[takers] = centers[takers] - offsets, centers[takers] + offsets
    return centers


def lower(items: int, width: int, size: int, mesh: Mesh) -> dict[str, jax.stages.Lowered]:
    """Returns the program that `kmeans` runs for a sample of `items` embeddings, lowered without any array."""
    points = min(items, size * ROWS_PER_CODE)
    rows = _block_rows(size, points, mesh)
    placed = jax.ShapeDtypeStruct(
        (-(-points // rows), rows, width), jnp.float32, sharding=sharding.named(mesh, None, "items")
    )
    centers = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=sharding.named(mesh))
    with jax.set_mesh(mesh):
        return {"k-means, iteration": _two_nearest.lower(centers, placed)}


@functools.partial(jax.jit, static_argnames="beams")
def quantize(vectors: jax.Array, codebooks: tuple[jax.Array, ...], beams: int = 1) -> jax.Array:
    """Returns int32[batch, levels] for float32[batch, width]: the code nearest to the residual at each level.

    With several beams, the codes of least error that a beam search finds, which keeps as many code sequences from level
    to level (Babenko and Lempitsky 2014, "Additive Quantization for Extreme Vector Compression").
    """
    residual = vectors[:, None]  # [batch, sequences kept, width]
    kept = jnp.zeros((len(vectors), 1, 0), jnp.int32)
    for book in codebooks:
        distances = squared_distances(residual, book).reshape(len(vectors), -1)
        if beams == 1:
            places = jnp.argmin(distances, axis=1, keepdims=True)
        else:
            places = jax.lax.top_k(-distances, min(beams, distances.shape[1]))[1]
        sequences, found = jnp.divmod(places, len(book))
        residual = jnp.take_along_axis(residual, sequences[..., None], axis=1) - book[found]
        kept = jnp.take_along_axis(kept, sequences[..., None], axis=1)
        kept = jnp.concatenate([kept, found[..., None].astype(jnp.int32)], axis=2)
    return kept[:, 0]


def squared_distances(points: jax.Array, centers: jax.Array) -> jax.Array:
    """Returns float32[..., centers] for points [..., width] and centers [centers, width]."""
    # Full precision: accelerators would round the product to bfloat16, and near ties would flip.
    products = jnp.matmul(points, centers.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(points**2, axis=-1)[..., None] - 2 * products + jnp.sum(centers**2, axis=-1)


@jax.jit
def _two_nearest(centers: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns for points [blocks, rows, width] the nearest center and two squared distances, [blocks, rows] each."""

    def block(_: None, points: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array, jax.Array]]:
        distances = jnp.maximum(squared_distances(points, centers), 0)
        nearest = jnp.argmin(distances, axis=1)
        others = jnp.where(jnp.arange(len(centers)) == nearest[:, None], jnp.inf, distances)
        return None, (nearest.astype(jnp.int32), distances.min(axis=1), others.min(axis=1))

    return jax.lax.scan(block, None, points)[1]


def sample(embeddings: np.ndarray, config: config_lib.SemanticIdLearning) -> np.ndarray:
    """Returns the rows of float32[items, width] that centers are learned from, `ROWS_PER_CODE` for each at most."""
    count = max(config.codes) * ROWS_PER_CODE
    if len(embeddings) <= count:
        return embeddings.astype(np.float32)
    return embeddings[np.sort(np.random.default_rng(config.seed).choice(len(embeddings), count, replace=False))]


def _rows_at_once(size: int) -> int:
    return max(256, DISTANCES_AT_ONCE // size)


def _block_rows(elements: int, rows: int, mesh: Mesh) -> int:
    """Returns the rows of a block, at most `rows` rounded up to the same number on every device."""
    return -(-min(_rows_at_once(elements), rows) // mesh.size) * mesh.size
