"""Catalogue index sharded over devices, for catalogues that do not fit one; the results of a search are the same.

The sorted table is split where the code of the first level changes, into shards of about the same size, one for each
position along the mesh axis of "table" (`sharding.RULES`). A beam, which is a range of rows, lies in one shard. In each
step every device finds the k best children of its own beams, and the k best of all shards are selected:

    device 0, first codes 0 to 90      beams 0, 1, 2    its k best children ┐
    device 1, first codes 91 to 180    beam 3           its k best children ┼─▶ k best, in table order
    device 2, first codes 181 to 255   beams 4, 5       its k best children ┘

Shards are in table order, so that of equal scores the first still wins. Only the best children travel between devices
and, if a search samples, the scores of the first codes. Columns, runs, items, `FilterArrays.shared` and its bits of
runs, which grow with the catalogue, are sharded; every device has a boundary table for the whole catalogue, whose
budget limits it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from genrec import sharding
from genrec.decoding import top_k
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Expansion, MaybeConstraints, take
from genrec.decoding.sampling import Sampling
from genrec.decoding.sorted_table import SortedTable

BY_SHARD, BY_ROW = PartitionSpec(sharding.RULES["table"]), PartitionSpec(sharding.RULES["batch"])
FOUND = PartitionSpec(sharding.RULES["batch"], sharding.RULES["table"])  # [batch, children found by all shards]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShardedIndex(CatalogueIndex):
    """Catalogue index whose arrays have a leading axis of shards, for use under `jax.jit` and `jax.set_mesh`.

    Batches must be divisible by the devices that share them. Row r of shard s has the number s * capacity + r in states
    and in constraints.
    """

    def start(self, batch: int) -> BeamState:
        """Returns one beam for each row of the batch, the root, which lies in all shards."""
        whole = jnp.int32(len(self.items) * self.layout.capacity)
        return CatalogueIndex.start(dataclasses.replace(self, count=whole), batch)

    def expand(
        self,
        state: BeamState,
        logits: jax.Array,
        k: int,
        constraints: MaybeConstraints = None,
        sampling: Sampling[jax.Array] | None = None,
        limit: jax.Array | None = None,
    ) -> Expansion:
        """See `CatalogueIndex.expand`."""
        base, logits = self.normalize(state, logits)

        def expand(
            shard: CatalogueIndex,
            shift: jax.Array,
            state: BeamState,
            base: jax.Array,
            logits: jax.Array,
            constraints: MaybeConstraints,
            sampling: Sampling[jax.Array] | None,
            limit: jax.Array | None,
        ) -> tuple[jax.Array, jax.Array, BeamState]:
            state, constraints = _local_beams(shard, shift, state), _local_constraints(shard, shift, constraints)
            if sampling is None:
                found = shard.choose_best(state, base, logits, k, constraints, limit)
            else:
                scores = shard.score(state, base, logits, constraints)
                # Children of one beam are perturbed together. Those of the root lie in all shards.
                together = scores if state.level else jax.lax.pmax(scores, sharding.RULES["table"])
                perturbed = shard.perturb(state, together, sampling)
                perturbed = jax.tree.map(lambda x: jnp.where(scores > -jnp.inf, x, -jnp.inf), perturbed)
                found = shard.choose(state, scores, perturbed, k, limit)
            first, end, pruned = found.state.first + shift, found.state.end + shift, found.state.pruned[:, None]
            return found.parents, found.codes, dataclasses.replace(found.state, first=first, end=end, pruned=pruned)

        found_by_shard = self._on_shards(expand, FOUND, state, base, logits, constraints, sampling, limit)
        parents, codes, found = jax.tree.map(lambda x: sharding.constrain(x, "batch"), found_by_shard)
        chosen, rest = top_k.top_k(found.selection_scores, k)
        scores, perturbed = jax.tree.map(lambda x: take(x, chosen), (found.scores, found.perturbed))
        parents, codes, first, end, prefix, root = (
            take(x, chosen, 0) for x in (parents, codes, found.first, found.end, found.prefix, found.root)
        )
        pruned = jnp.maximum(found.pruned.max(axis=1), rest)
        following = BeamState(first, end, prefix, root, scores, pruned, perturbed, level=state.level + 1)
        kept = jnp.array(k == state.beams) & ((parents == jnp.arange(k)) | (scores == -jnp.inf)).all()
        return Expansion(parents, codes, scores, following, kept)

    def _sums_of_codes(self, state: BeamState, transitions: jax.Array) -> jax.Array:
        def sums(shard: CatalogueIndex, shift: jax.Array, state: BeamState, transitions: jax.Array) -> jax.Array:
            own = jax.lax.dynamic_slice_in_dim(transitions, shift, shard.layout.capacity + 1, axis=1)
            return jax.lax.psum(shard._sums_of_codes(_local_beams(shard, shift, state), own), sharding.RULES["table"])

        return self._on_shards(sums, BY_ROW, state, transitions)

    def remaining(self, state: BeamState) -> list[jax.Array]:
        """See `CatalogueIndex.remaining`."""

        def remaining(shard: CatalogueIndex, shift: jax.Array, state: BeamState) -> list[jax.Array]:
            state = _local_beams(shard, shift, state)
            codes = [jnp.where(state.end > state.first, codes, 0) for codes in shard.remaining(state)]
            return jax.lax.psum(codes, sharding.RULES["table"])

        return self._on_shards(remaining, BY_ROW, state)

    def _leaves(self, first: jax.Array, end: jax.Array, constraints: MaybeConstraints) -> jax.Array:
        def leaves(
            shard: CatalogueIndex, shift: jax.Array, first: jax.Array, end: jax.Array, constraints: MaybeConstraints
        ) -> jax.Array:
            first, end = _local_rows(shard, shift, first), _local_rows(shard, shift, end)
            items = shard._leaves(first, end, _local_constraints(shard, shift, constraints))
            return jax.lax.pmax(items, sharding.RULES["table"])

        return self._on_shards(leaves, BY_ROW, first, end, constraints)

    def _on_shards(self, function: Callable, out_specs: PartitionSpec, *by_row: Any) -> Any:
        """Runs function(shard, number of its first row, *by_row) on every device, with its rows of the batch."""

        def on_device(shards: ShardedIndex, *by_row: Any) -> Any:
            shard = CatalogueIndex.of(jax.tree.map(lambda x: x[0], shards))
            return function(shard, jax.lax.axis_index(sharding.RULES["table"]) * shard.layout.capacity, *by_row)

        in_specs = (BY_SHARD, *(BY_ROW for _ in by_row))
        # Unchecked: constants in the branches of a condition would have to be marked as varying over devices.
        return jax.shard_map(on_device, in_specs=in_specs, out_specs=out_specs, check_vma=False)(self, *by_row)


def _local_rows(shard: CatalogueIndex, shift: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns row numbers within the shard. Both ends of a range outside the shard become equal: it is empty."""
    return jnp.clip(rows - shift, 0, shard.layout.capacity)


def _local_beams(shard: CatalogueIndex, shift: jax.Array, state: BeamState) -> BeamState:
    """Returns the state with the beams outside the shard dead."""
    first, end = _local_rows(shard, shift, state.first), _local_rows(shard, shift, state.end)
    return dataclasses.replace(state, first=first, end=end, scores=jnp.where(end > first, state.scores, -jnp.inf))


def _local_constraints(shard: CatalogueIndex, shift: jax.Array, constraints: MaybeConstraints) -> MaybeConstraints:
    """Returns the constraints with the excluded rows outside the shard moved beyond its end."""
    if constraints is None:
        return None
    rows, capacity = constraints.excluded - shift, shard.layout.capacity
    return constraints._replace(excluded=jnp.where((rows >= 0) & (rows < capacity), rows, capacity))


def shard_bounds(table: SortedTable, shards: int) -> np.ndarray:
    """Returns int64[shards - 1]: the first codes at which the second and later shards begin; see `SortedTable.split`.

    Shards are as equal in size as that allows; a shard may be empty.
    """
    starts = np.append(np.flatnonzero(table.shared == 0), len(table))
    wanted = np.linspace(0, len(table), shards + 1)[1:-1]
    after = np.searchsorted(starts, wanted)
    nearest = after - (wanted - starts[after - 1] <= starts[after] - wanted)
    codes = np.append(table.codes[starts[:-1], 0].astype(np.int64), table.sizes[0])
    return codes[nearest]
