"""A `CatalogueIndex` cut over devices, for catalogues that do not fit one: the same search, with the same results.

The sorted table is cut where the code of the first level changes, into parts of about the same size, one for each place
along the mesh axis of "table" (`sharding.RULES`). A beam, which is a range of rows, then lies in one part. In each step
every device finds the k best children of its own beams, and the k best of all parts follow:

    device 0, first codes 0 to 90      beams 0, 1, 2    its k best children ┐
    device 1, first codes 91 to 180    beam 3           its k best children ┼─▶ k best, in the order of the table
    device 2, first codes 181 to 255   beams 4, 5       its k best children ┘

Parts stand one after the other in the order of the table, so of equal scores the first still wins. Only what is found
travels between devices, and where a search samples, the scores of the first codes. Columns, items and what filters
know of rows, which is all that grows with the catalogue, are cut; a boundary table is as long on each device as that of
the whole catalogue, and its budget bounds it.
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
from genrec.decoding.catalogue_index import BeamState, CatalogueIndex, Constraints, Expansion, take
from genrec.decoding.sampling import Sampling
from genrec.decoding.sorted_table import SortedTable

BY_PART, BY_ROW = PartitionSpec(sharding.RULES["table"]), PartitionSpec(sharding.RULES["batch"])
FOUND = PartitionSpec(sharding.RULES["batch"], sharding.RULES["table"])  # [batch, what all parts have found]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShardedIndex(CatalogueIndex):
    """Every array has a leading axis of parts. To be used under `jax.jit` and the `jax.set_mesh` that it is cut over.

    Batches must be divisible by the devices that share them. Row r of part p has the number p * capacity + r, in states
    and in constraints.
    """

    def start(self, batch: int) -> BeamState:
        """One beam for each row of the batch, which lies in all parts."""
        whole = jnp.int32(len(self.items) * self.layout.capacity)
        return CatalogueIndex.start(dataclasses.replace(self, count=whole), batch)

    def expand(
        self,
        state: BeamState,
        logits: jax.Array,
        k: int,
        constraints: Constraints | None = None,
        sample: Sampling | None = None,
        most: jax.Array | None = None,
    ) -> Expansion:
        """See `CatalogueIndex.expand`."""
        base, logits = self.normalize(state, logits)

        def of_part(
            part: CatalogueIndex,
            shift: jax.Array,
            state: BeamState,
            base: jax.Array,
            logits: jax.Array,
            constraints: Constraints | None,
            sample: Sampling | None,
            most: jax.Array | None,
        ) -> tuple[jax.Array, jax.Array, BeamState]:
            state, constraints = _beams_of(part, shift, state), _rows_of(part, shift, constraints)
            scores = part.score(state, base, logits, constraints)
            drawn = None
            if sample is not None:
                # Children of one beam are drawn together. Those of the first, the whole catalogue, lie in all parts.
                together = scores if state.level else jax.lax.pmax(scores, sharding.RULES["table"])
                drawn = part.draw(state, together, sample)
                drawn = jax.tree.map(lambda x: jnp.where(scores > -jnp.inf, x, -jnp.inf), drawn)
            found = part.choose(state, scores, drawn, k, most)
            first, end, pruned = found.state.first + shift, found.state.end + shift, found.state.pruned[:, None]
            return found.parents, found.codes, dataclasses.replace(found.state, first=first, end=end, pruned=pruned)

        found_by_part = self._on_parts(of_part, FOUND, state, base, logits, constraints, sample, most)
        parents, codes, found = jax.tree.map(lambda x: sharding.constrain(x, "batch"), found_by_part)
        chosen, rest = top_k.best(found.keys, k)
        scores, drawn = jax.tree.map(lambda x: take(x, chosen), (found.scores, found.drawn))
        parents, codes, first, end, prefix, root = (
            take(x, chosen, 0) for x in (parents, codes, found.first, found.end, found.prefix, found.root)
        )
        pruned = jnp.maximum(found.pruned.max(axis=1), rest)
        following = BeamState(first, end, prefix, root, scores, pruned, drawn, level=state.level + 1)
        kept = jnp.array(k == state.beams) & ((parents == jnp.arange(k)) | (scores == -jnp.inf)).all()
        return Expansion(parents, codes, scores, following, kept)

    def remaining(self, state: BeamState) -> list[jax.Array]:
        """See `CatalogueIndex.remaining`."""

        def of_part(part: CatalogueIndex, shift: jax.Array, state: BeamState) -> list[jax.Array]:
            state = _beams_of(part, shift, state)
            codes = [jnp.where(state.end > state.first, codes, 0) for codes in part.remaining(state)]
            return jax.lax.psum(codes, sharding.RULES["table"])

        return self._on_parts(of_part, BY_ROW, state)

    def _leaves(self, first: jax.Array, end: jax.Array, constraints: Constraints | None) -> jax.Array:
        def of_part(
            part: CatalogueIndex, shift: jax.Array, first: jax.Array, end: jax.Array, constraints: Constraints | None
        ) -> jax.Array:
            first, end = _local(part, shift, first), _local(part, shift, end)
            items = part._leaves(first, end, _rows_of(part, shift, constraints))
            return jax.lax.pmax(items, sharding.RULES["table"])

        return self._on_parts(of_part, BY_ROW, first, end, constraints)

    def _on_parts(self, function: Callable, out_specs: PartitionSpec, *by_row: Any) -> Any:
        """function(part, number of its first row, *by_row) on every device, with the rows of the batch that it has."""

        def on_device(parts: ShardedIndex, *by_row: Any) -> Any:
            part = CatalogueIndex.of(jax.tree.map(lambda x: x[0], parts))
            return function(part, jax.lax.axis_index(sharding.RULES["table"]) * part.layout.capacity, *by_row)

        in_specs = (BY_PART, *(BY_ROW for _ in by_row))
        # Unchecked: constants in the branches of a condition would have to be marked as different on each device.
        return jax.shard_map(on_device, in_specs=in_specs, out_specs=out_specs, check_vma=False)(self, *by_row)


def _local(part: CatalogueIndex, shift: jax.Array, rows: jax.Array) -> jax.Array:
    """Row numbers of the part. Of a range that lies elsewhere both ends become the same: it is empty."""
    return jnp.clip(rows - shift, 0, part.layout.capacity)


def _beams_of(part: CatalogueIndex, shift: jax.Array, state: BeamState) -> BeamState:
    """The state with the beams that lie in the part; the others are dead."""
    first, end = _local(part, shift, state.first), _local(part, shift, state.end)
    return dataclasses.replace(state, first=first, end=end, scores=jnp.where(end > first, state.scores, -jnp.inf))


def _rows_of(part: CatalogueIndex, shift: jax.Array, constraints: Constraints | None) -> Constraints | None:
    """Constraints with the excluded rows of the part; the others lie beyond it."""
    if constraints is None:
        return None
    rows, capacity = constraints.excluded - shift, part.layout.capacity
    return constraints._replace(excluded=jnp.where((rows >= 0) & (rows < capacity), rows, capacity))


def bounds(table: SortedTable, parts: int) -> np.ndarray:
    """int64[parts - 1]: codes of the first level at which the later parts begin; see `SortedTable.cut`.

    As near to equal parts as that allows; a part may be empty.
    """
    starts = np.append(np.flatnonzero(table.shared == 0), len(table))
    wanted = np.linspace(0, len(table), parts + 1)[1:-1]
    after = np.searchsorted(starts, wanted)
    nearest = after - (wanted - starts[after - 1] <= starts[after] - wanted)
    codes = np.append(table.codes[starts[:-1], 0].astype(np.int64), table.sizes[0])
    return codes[nearest]
