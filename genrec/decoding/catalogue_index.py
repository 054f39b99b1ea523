"""The catalogue as a sorted table of codes, so that a beam search can only produce items that exist.

Items are sorted by their codes; all items that share a prefix are then neighbours, and a beam *is* a range of rows
[first, end). For example, three items with two levels:

    row  codes  item
    0    0 3    7        the beam "0" is the rows [0, 2); its children are the codes 3 and 5
    1    0 5    2        the beam "0 5" is the rows [1, 2): item 2
    2    4 0    9        the beam "4" is the rows [2, 3)

How the children of a beam are found depends on the level:

* while the number of possible prefixes fits a budget, by a *boundary table*: one gathered row holds the first row of
  each of the beam's children, and a child exists where the next one begins later;
* below, by a *window*: the codes of the beam's rows themselves, of which the first of each run is a child. The window
  is as wide as the largest range of that level, which is small because the levels above have divided the catalogue.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

# Possible prefixes, at most, of a level that has a boundary table (a little over 4 bytes each).
BOUNDARY_BUDGET = 1 << 20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeamState:
    """Where each beam of a search stands. A beam with score -inf is dead: it has no rows, and no children."""

    first: jax.Array  # int32[batch, beams], first row of the beam's range
    end: jax.Array  # int32[batch, beams], one past the last row
    prefix: jax.Array  # int32[batch, beams], number of the beam's prefix: the row of the next boundary table
    scores: jax.Array  # float32[batch, beams], log-probability of the codes so far
    level: int = dataclasses.field(metadata={"static": True})  # the level that is chosen next

    @property
    def beams(self) -> int:
        return self.scores.shape[1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CatalogueIndex:
    """A pytree of device arrays: pass it to jitted functions as an argument. Built by `CatalogueIndex.build`."""

    boundaries: tuple[jax.Array, ...]  # for the first levels: int32[prefixes, size + 1]
    columns: tuple[jax.Array, ...]  # for the later levels: uint16[rows + window], the level's codes in table order
    rows: jax.Array  # int32[rows], the item of each row
    sizes: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # codes of each level
    windows: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # rows that each later level reads

    @staticmethod
    def build(codes: np.ndarray, sizes: tuple[int, ...], boundary_budget: int = BOUNDARY_BUDGET) -> "CatalogueIndex":
        """The index of `codes` uint16[items, levels], where codes[:, level] < sizes[level] and no two rows are equal.

        `boundary_budget` bounds the prefixes of each boundary table; 0 reads windows at every level.
        Raises ValueError for codes that do not fit the sizes, for an empty catalogue, and for items with equal codes.
        """
        _check(codes, sizes)
        items, levels = codes.shape
        # One stable sort per level, last level first; on 16-bit codes numpy's stable sort is a radix sort.
        order = np.arange(items)
        for level in reversed(range(levels)):
            order = order[np.argsort(codes[order, level], kind="stable")]
        codes = codes[order]

        boundaries, columns, windows = [], [], []
        prefixes = np.zeros(items, np.int64)
        starts_run = np.arange(items) == 0  # whether a row is the first with its prefix
        for level, size in enumerate(sizes):
            column = codes[:, level]
            # Once a level is too large for a table, so are all below it: they need the prefix numbers of the one above.
            if not columns and math.prod(sizes[: level + 1]) <= boundary_budget:
                prefixes = prefixes * size + column
                starts = np.searchsorted(prefixes, np.arange(math.prod(sizes[: level + 1]) + 1)).astype(np.int32)
                boundaries.append(np.column_stack([starts[:-1].reshape(-1, size), starts[size::size]]))
            else:
                window = int(np.diff(np.append(np.flatnonzero(starts_run), items)).max())
                # Padded, so that a window that begins in the last rows is not moved back to fit.
                columns.append(np.pad(column, (0, window)))
                windows.append(window)
            starts_run[1:] |= column[1:] != column[:-1]
        if not starts_run.all():
            row = int(np.flatnonzero(~starts_run)[0])
            raise ValueError(
                f"items {order[row - 1]} and {order[row]} have the same codes {codes[row].tolist()}. "
                "Learn the semantic IDs again: their last level separates collisions."
            )
        return CatalogueIndex(
            boundaries=tuple(map(jnp.asarray, boundaries)),
            columns=tuple(map(jnp.asarray, columns)),
            rows=jnp.asarray(order, jnp.int32),
            sizes=tuple(sizes),
            windows=tuple(windows),
        )

    @property
    def levels(self) -> int:
        return len(self.sizes)

    def start(self, batch: int) -> BeamState:
        """One beam for each row of the batch: the whole catalogue, with probability 1."""
        zeros = jnp.zeros((batch, 1), jnp.int32)
        end = jnp.full_like(zeros, self.rows.size)
        return BeamState(zeros, end, prefix=zeros, scores=zeros.astype(jnp.float32), level=0)

    def expand(self, state: BeamState, logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array, BeamState]:
        """Chooses the k best children of all beams, by the log-probability of their codes.

        `logits` is [batch, beams, sizes[state.level]]. Returns `parents` int32[batch, k] (the beam that each child came
        from), `codes` int32[batch, k], `scores` float32[batch, k] in descending order, and the state of the next level.

        A child's score is its parent's plus log softmax(logits)[code] over *all* codes of the level, also those that
        lead to no item: scores stay the model's own likelihoods. Of equal scores the lower beam comes first, then the
        lower code. Where there are fewer than k children the rest is dead: score -inf, parent and code 0.
        """
        size = self.sizes[state.level]
        if logits.shape != (*state.scores.shape, size):
            raise ValueError(
                f"logits of level {state.level} have shape {logits.shape}, not {(*state.scores.shape, size)} "
                "[batch, beams, codes of the level]"
            )
        # Low precision would make ties of different scores, and is slow to sort on CPU.
        logits = logits.astype(jnp.float32)
        # The normaliser goes into one number per beam, so that no array of log-probabilities is made.
        base = state.scores - jax.nn.logsumexp(logits, axis=-1)  # [batch, beams]
        if state.level < len(self.boundaries):
            return self._expand_boundaries(state, base, logits, k)
        return self._expand_window(state, base, logits, k)

    def _expand_boundaries(self, state: BeamState, base: jax.Array, logits: jax.Array, k: int):
        bounds = self.boundaries[state.level][state.prefix]  # [batch, beams, size + 1]
        exists = bounds[..., 1:] > bounds[..., :-1]
        parents, codes, scores = _best(base, logits, exists, k)
        row = jnp.arange(parents.shape[0])[:, None]
        first, end = bounds[row, parents, codes], bounds[row, parents, codes + 1]
        prefix = state.prefix[row, parents] * logits.shape[-1] + codes
        return _next(state, parents, codes, scores, first, end, prefix)

    def _expand_window(self, state: BeamState, base: jax.Array, logits: jax.Array, k: int):
        later = state.level - len(self.boundaries)
        column, window = self.columns[later], self.windows[later]
        read = jax.vmap(jax.vmap(lambda first: jax.lax.dynamic_slice(column, (first,), (window,))))
        codes = read(state.first).astype(jnp.int32)  # [batch, beams, window]
        inside = jnp.arange(window) < (state.end - state.first)[..., None]
        begins = jnp.concatenate([jnp.ones_like(inside[..., :1]), codes[..., 1:] != codes[..., :-1]], axis=-1)
        # Rows beyond the range may hold codes of the next prefix, which have logits too: `exists` hides them.
        child_logits = jnp.take_along_axis(logits, codes, axis=-1)
        parents, places, scores = _best(base, child_logits, inside & begins, k)
        row = jnp.arange(parents.shape[0])[:, None]
        chosen = codes[row, parents, places]  # [batch, k]
        first = state.first[row, parents] + places
        run = inside[row, parents] & (codes[row, parents] == chosen[..., None])  # [batch, k, window]
        end = first + run.sum(axis=-1, dtype=jnp.int32)
        return _next(state, parents, chosen, scores, first, end, jnp.zeros_like(first))

    def items(self, state: BeamState) -> jax.Array:
        """int32[batch, beams]: the items of complete beams (after the last level); -1 for dead ones."""
        return jnp.where(state.scores > -jnp.inf, self.rows[state.first], -1)


def _best(base: jax.Array, logits: jax.Array, exists: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k best of [batch, beams, children]: beams, children and scores, each [batch, k]."""
    batch, beams, children = logits.shape
    scores = jnp.where(exists, base[..., None] + logits, -jnp.inf).reshape(batch, beams * children)
    # Of equal scores, top_k takes the lowest index first: the order that `expand` promises.
    scores, chosen = jax.lax.top_k(scores, min(k, beams * children))
    missing = ((0, 0), (0, k - scores.shape[1]))
    scores = jnp.pad(scores, missing, constant_values=-jnp.inf)
    chosen = jnp.pad(chosen, missing)
    return chosen // children, chosen % children, scores


def _next(state: BeamState, parents, codes, scores, first, end, prefix):
    """The results of `expand`, with everything but the score zero where a beam is dead."""
    live = scores > -jnp.inf
    parents, codes, first, end, prefix = (jnp.where(live, x, 0) for x in (parents, codes, first, end, prefix))
    return parents, codes, scores, BeamState(first, end, prefix, scores, level=state.level + 1)


def _check(codes: np.ndarray, sizes: tuple[int, ...]) -> None:
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError(f"codes have shape {codes.shape}, not [items, {len(sizes)}] for {len(sizes)} sizes")
    if codes.shape[0] == 0:
        raise ValueError("the catalogue is empty: there is nothing to recommend")
    if codes.dtype != np.uint16:
        raise ValueError(f"codes are {codes.dtype}, not uint16")
    for level, size in enumerate(sizes):
        largest = int(codes[:, level].max())
        if largest >= size:
            raise ValueError(f"level {level} has the code {largest}, but only {size} codes")
