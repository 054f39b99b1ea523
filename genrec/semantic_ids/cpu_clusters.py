"""Nearest centers on the cores of one CPU, several times as fast as JAX computes them there.

Threads take blocks of rows whose products with all centers stay in the cache of a core.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import threadpoolctl
from jax.sharding import Mesh

BLOCK_ELEMENTS = 1 << 18  # products of a block: 1 MiB


def fits(mesh: Mesh) -> bool:
    """Returns whether the mesh is the CPU of this process alone."""
    return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu" and jax.process_count() == 1


def two_nearest(points: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns int32[points], the nearest center of each of float32[points, width], and float32[points] twice.

    These are the squared distances to the nearest and to the second nearest center.
    """
    found, distances = np.empty(len(points), np.int32), np.empty((2, len(points)), np.float32)

    def fill(rows: slice) -> None:
        products = _products(points[rows], centers)
        every, found[rows] = np.arange(len(products)), products.argmax(axis=1)
        distances[0, rows] = _squared(points[rows], products[every, found[rows]])
        products[every, found[rows]] = -np.inf
        distances[1, rows] = _squared(points[rows], products.max(axis=1))

    _in_threads(fill, len(points), len(centers))
    return found, *distances


def quantize(vectors: np.ndarray, codebooks: list[np.ndarray], beams: int = 1) -> np.ndarray:
    """Returns int32[items, levels] for [items, width], as `residual_kmeans.quantize` does."""
    codes = np.empty((len(vectors), len(codebooks)), np.int32)

    def fill(rows: slice) -> None:
        residual = vectors[rows, None].astype(np.float32)  # [rows, sequences kept, width]
        every, kept = np.arange(len(residual))[:, None], np.empty((len(residual), 1, 0), np.int32)
        for book in codebooks:
            falling = _products(residual.reshape(-1, residual.shape[-1]), book).reshape(*residual.shape[:2], len(book))
            falling -= np.einsum("ijk,ijk->ij", residual, residual)[..., None] / 2
            sequences, found = np.divmod(_largest(falling.reshape(len(residual), -1), beams), len(book))
            residual = residual[every, sequences] - book[found]
            kept = np.concatenate([kept[every, sequences], found[..., None]], axis=2)
        codes[rows] = kept[:, 0]

    _in_threads(fill, len(vectors), beams * max(map(len, codebooks)))
    return codes


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the columns of the `count` largest of float32[rows, columns], largest first; overwrites them.

    A few passes over a block in the cache take less time than a partial sort.
    """
    every, places = np.arange(len(values)), np.empty((len(values), min(count, values.shape[1])), np.int64)
    for place in range(places.shape[1]):
        places[:, place] = values.argmax(axis=1)
        values[every, places[:, place]] = -np.inf
    return places


def _products(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns float32[points, centers]: x c - c c / 2, which falls with the distance of x and c."""
    products = points @ centers.T
    products -= np.einsum("ij,ij->i", centers, centers) / 2
    return products


def _squared(points: np.ndarray, products: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("ij,ij->i", points, points) - 2 * products, 0)


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()  # looks for loaded libraries once


def _in_threads(function: Callable[[slice], None], rows: int, centers: int) -> None:
    """Calls the function for blocks of rows, one thread a core; the matrix products within use no further threads."""
    step = max(1, BLOCK_ELEMENTS // centers)
    blocks = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(function, blocks))
