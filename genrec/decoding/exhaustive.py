"""Exhaustive retrieval: the top items of a model that scores every item of the catalogue."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from genrec import sharding
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.live_index import MIN_EXCLUDED
from genrec.input_pipeline.examples import Histories


class ExhaustiveRetriever:
    """Retriever that scores all items, compiled once per shape of its inputs; every list is certified."""

    def __init__(self, graphdef: nnx.GraphDef, items: int, top: int, mesh: Mesh | None = None):
        """`graphdef` is of a model with `scores` (models.sasrec), `items` the catalogue's size, `top` that of lists."""
        self.mesh, self.beams, self.top = mesh or sharding.one_device(), top, top
        self._items = items
        found = min(top, items)

        @functools.partial(jax.jit, out_shardings=sharding.named(self.mesh))
        def search(params: nnx.State, histories: Histories, excluded: jax.Array | None) -> RankedItems[jax.Array]:
            scores = nnx.merge(graphdef, params).scores(histories)
            if excluded is not None:
                scores = jax.vmap(lambda of_row, rows: of_row.at[rows].set(-jnp.inf, mode="drop"))(scores, excluded)
            values, rows = jax.lax.top_k(scores, found)  # of equal scores, the lower catalogue row comes first
            if excluded is not None:
                rows = jnp.where(values > -jnp.inf, rows, -1)
            short = ((0, 0), (0, top - found))
            return RankedItems(
                jnp.pad(rows, short, constant_values=-1),
                jnp.pad(values, short, constant_values=-jnp.inf),
                jnp.full(len(rows), -jnp.inf),
            )

        @functools.partial(jax.jit, out_shardings=sharding.named(self.mesh))
        def score(params: nnx.State, histories: Histories, items: jax.Array) -> jax.Array:
            return jnp.take_along_axis(nnx.merge(graphdef, params).scores(histories), items, axis=1)

        self._search, self._score = search, score

    def round_up(self, rows: int) -> int:
        """Returns the smallest batch of at least `rows` that divides evenly among the devices."""
        parts = sharding.parts(self.mesh, "batch")
        return -(-rows // parts) * parts

    def __call__(
        self, params: nnx.State, histories: Histories, exclude: Sequence[np.ndarray] | None = None
    ) -> RankedItems[jax.Array]:
        """Returns the best items of each row of `histories`, computed asynchronously.

        `exclude` are the catalogue rows int[n] that each list leaves out.
        """
        with jax.set_mesh(self.mesh):
            return self._search(
                params, self._put(histories), None if exclude is None else self._put(self._pad(exclude))
            )

    def score(self, params: nnx.State, histories: Histories, items: np.ndarray) -> jax.Array:
        """Returns float32[rows, n]: log-likelihoods of catalogue rows int32[rows, n]."""
        with jax.set_mesh(self.mesh):
            return self._score(params, self._put(histories), self._put(np.asarray(items, np.int32)))

    def _pad(self, exclude: Sequence[np.ndarray]) -> np.ndarray:
        """Returns int32[rows, n], catalogue rows padded beyond the catalogue to one of few lengths."""
        longest = max(map(len, exclude))
        excluded = np.full((len(exclude), max(MIN_EXCLUDED, 1 << (longest - 1).bit_length())), self._items, np.int32)
        for row, items in zip(excluded, exclude, strict=True):
            row[: len(items)] = items
        return excluded

    def _put(self, rows: Any) -> Any:
        """Shards the rows of a tree of NumPy arrays over the devices."""
        total = len(jax.tree.leaves(rows)[0])
        own = sharding.own_rows(self.mesh, total)
        return sharding.put_rows(self.mesh, jax.tree.map(lambda x: x[own], rows), total)
