"""Residual k-means: clusters the embeddings, then their residuals, level by level.

The codes of an item are its nearest center at each level; the sum of the centers approximates its embedding, better
with every level. It also initializes the codebooks of the RQ-VAE.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from genrec import config as config_lib
from genrec import sharding
from genrec.progress import progress
from genrec.semantic_ids.codes import SemanticIdError

MAX_ITERATIONS = 60
TOLERANCE = 1e-4  # k-means stops when the mean squared error falls by less than this share
ROWS_PER_CODE = 256  # embeddings per code in the sample from which centers are learned; all embeddings are encoded
SEED_CANDIDATES = 8  # candidate points for each initial center
DISTANCES_AT_ONCE = 1 << 24  # elements of the largest intermediate array

Pair = tuple[jax.Array, jax.Array]


class Quantizer(Protocol):
    """A learned residual quantizer."""

    @property
    def codebooks(self) -> list[np.ndarray]:
        """float32[codes, width] per level."""

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns int32[items, levels] for float32[items, width]."""

    def reconstruct(self, codes: np.ndarray, levels: int | None = None) -> np.ndarray:
        """Returns float32[items, width] for the first `levels` codes (default: all) of integers[items, levels]."""


@dataclasses.dataclass(frozen=True)
class ResidualCodebooks:
    """Quantizer that approximates an embedding by the sum of one cluster center per level."""

    codebooks: list[np.ndarray]
    mesh: Mesh | None = None  # the devices that share the items, by default one

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        books = tuple(self.codebooks)
        return in_blocks(lambda block: quantize(block, books), embeddings, max(map(len, books)), self.mesh)

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
        key = jax.random.fold_in(jax.random.key(config.seed), level)
        book = kmeans(residual, size, key, f"k-means, level {level + 1} of {len(config.codes)}", mesh)
        codebooks.append(book)
        level_codes = ResidualCodebooks([book], mesh)
        residual = residual - level_codes.reconstruct(level_codes.encode(residual))
    return ResidualCodebooks(codebooks, mesh)


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


def kmeans(
    points: np.ndarray, size: int, key: jax.Array, description: str = "k-means", mesh: Mesh | None = None
) -> np.ndarray:
    """Returns float32[size, width]: cluster centers of float32[points, width], which are sharded over `mesh`.

    Greedy k-means++ seeding (Arthur and Vassilvitskii 2007: of several candidates, drawn by their squared distance from
    the centers so far, the one that lowers the error most), then Lloyd's iterations. A center without points moves to
    one of the points that are farthest from their own center.
    """
    mesh = mesh or sharding.one_device()
    rows = _block_rows(size, len(points), mesh)
    blocks = -(-len(points) // rows)
    padded = np.pad(points.astype(np.float32), ((0, blocks * rows - len(points)), (0, 0)))
    real = (np.arange(len(padded)) < len(points)).astype(np.float32)
    placed = sharding.put(mesh, padded.reshape(blocks, rows, -1), None, "items")
    weights = sharding.put(mesh, real.reshape(blocks, rows), None, "items")
    previous = np.inf
    with jax.set_mesh(mesh):
        centers = _seed_centers(placed, weights, size, key)
        for _ in progress(range(MAX_ITERATIONS), description):
            centers, total_error = _lloyd(centers, placed, weights)
            error = float(total_error) / len(points)
            if previous - error <= TOLERANCE * error:
                break
            previous = error
    logging.info("%s: mean squared error %.5f", description, error)
    return np.asarray(centers)


def lower(items: int, width: int, size: int, mesh: Mesh) -> dict[str, jax.stages.Lowered]:
    """Returns the programs that `kmeans` runs for a sample of `items` embeddings, lowered without any array."""
    points = min(items, size * ROWS_PER_CODE)
    rows = _block_rows(size, points, mesh)
    sharded, whole = sharding.named(mesh, None, "items"), sharding.named(mesh)
    shape = (-(-points // rows), rows)
    placed = jax.ShapeDtypeStruct((*shape, width), jnp.float32, sharding=sharded)
    weights = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharded)
    key = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype, sharding=whole)
    centers = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=whole)
    with jax.set_mesh(mesh):
        return {
            "k-means, seeding": _seed_centers.lower(placed, weights, size, key),
            "k-means, iteration": _lloyd.lower(centers, placed, weights),
        }


@jax.jit
def quantize(vectors: jax.Array, codebooks: tuple[jax.Array, ...]) -> jax.Array:
    """Returns int32[batch, levels] for float32[batch, width]: the code nearest to the residual at each level."""
    codes = []
    for book in codebooks:
        codes.append(jnp.argmin(squared_distances(vectors, book), axis=1))
        vectors = vectors - book[codes[-1]]
    return jnp.stack(codes, axis=1).astype(jnp.int32)


def squared_distances(points: jax.Array, centers: jax.Array) -> jax.Array:
    """Returns float32[..., centers] for points [..., width] and centers [centers, width]."""
    # Full precision: accelerators would round the product to bfloat16, and near ties would flip.
    products = jnp.matmul(points, centers.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(points**2, axis=-1)[..., None] - 2 * products + jnp.sum(centers**2, axis=-1)


@functools.partial(jax.jit, static_argnames="size")
def _seed_centers(points: jax.Array, weights: jax.Array, size: int, key: jax.Array) -> jax.Array:
    """Returns the initial centers [size, width] of points [blocks, rows, width] with weights [blocks, rows]."""

    def draw(key: jax.Array, mass: jax.Array, count: int) -> jax.Array:  # [count, width], in proportion to mass
        cumulative = jnp.cumsum(mass.reshape(-1))
        places = jnp.searchsorted(cumulative, jax.random.uniform(key, (count,)) * cumulative[-1], side="right")
        return _take(points, jnp.minimum(places, cumulative.size - 1))

    def add(index: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centers, nearest = state
        candidates = draw(jax.random.fold_in(key, index), nearest, SEED_CANDIDATES)
        distances = jnp.maximum(squared_distances(points, candidates), 0) * weights[..., None]
        after = jnp.minimum(distances, nearest[..., None])
        best = jnp.argmin(after.sum(axis=(0, 1)))
        return centers.at[index].set(candidates[best]), after[..., best]

    first = draw(key, weights, 1)
    centers = jnp.zeros((size, points.shape[-1]), points.dtype).at[0].set(first[0])
    nearest = jnp.maximum(squared_distances(points, first)[..., 0], 0) * weights
    return jax.lax.fori_loop(1, size, add, (centers, nearest))[0]


def _take(points: jax.Array, places: jax.Array) -> jax.Array:
    """Returns rows of points [blocks, rows, width], numbered block after block.

    The points are not flattened: a block is sharded over several devices, so that all of them would move.
    """
    rows = points.shape[1]
    return points[places // rows, places % rows]


@jax.jit
def _lloyd(centers: jax.Array, points: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Runs one iteration over points [blocks, rows, width]; returns new centers and the total error of the old ones."""

    def block(sums: Pair, inputs: Pair) -> tuple[Pair, jax.Array]:
        total, counts = sums
        points, weights = inputs
        distances = squared_distances(points, centers)
        chosen = jnp.argmin(distances, axis=1)
        # Sums per cluster as a matrix product: scattered additions are slow on every kind of device.
        members = jax.nn.one_hot(chosen, len(centers)) * weights[:, None]  # [rows, codes]
        total += jnp.matmul(members.T, points, precision=jax.lax.Precision.HIGHEST)
        error = jnp.maximum(distances.min(axis=1), 0) * weights
        return (total, counts + members.sum(axis=0)), error

    start = jnp.zeros_like(centers), jnp.zeros(len(centers), centers.dtype)
    (total, counts), errors = jax.lax.scan(block, start, (points, weights))
    empty = counts == 0
    farthest = jax.lax.top_k(errors.reshape(-1), len(centers))[1]  # [codes] rows, largest error first
    rescued = _take(points, farthest[jnp.cumsum(empty) - 1])
    means = total / jnp.maximum(counts, 1)[:, None]
    return jnp.where(empty[:, None], rescued, means), errors.sum()


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
