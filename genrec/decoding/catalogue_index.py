"""The catalogue as a sorted table of codes, so that a beam search can only produce items that exist.

Items are sorted by their codes; all items that share a prefix are then neighbors, and a beam *is* a range of rows
[first, end). For example, three items with two levels:

    row  codes  item
    0    0 3    7        the beam "0" is the rows [0, 2); its children are the codes 3 and 5
    1    0 5    2        the beam "0 5" is the row [1, 2): item 2
    2    4 0    9        the beam "4" is the row [2, 3)

How the children of a beam are found depends on the level:

* while the number of possible prefixes fits a budget, by a *boundary table*: a bit for each child says whether it
  exists, and the first row of each prefix says where its range lies;
* below, by a *window*: the rows of the beam themselves, of which the first of each run of equal codes is a child. The
  window is as wide as the largest range of that level, which is small because the levels above have divided the
  catalogue. Rows know how many leading codes they share with the row before, which tells where a run begins.

A *filter* is the same two things made for some of the items only: the bits of the children that lead to an eligible
item, and the codes that an eligible row shares with the *eligible* row before it. So a filtered search takes the same
steps as an unfiltered one, sees no dead ends, and every row of a batch may have a filter of its own.

Shapes never depend on how many items there are, only on the `Layout`, which leaves room: a changed catalogue, or
another filter, is other arrays for the same compiled function.
"""

import dataclasses
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from genrec.decoding import sampling, top_k
from genrec.decoding.index_arrays import BITS, NOT_ELIGIBLE, IndexArrays, Layout, arrays, filter_of
from genrec.decoding.sampling import Drawn, Sampling
from genrec.decoding.sorted_table import SortedTable


class Constraints(NamedTuple):
    """What each row of a batch may get; made by `LiveIndex.constraints`."""

    filters: jax.Array  # int32[batch], a filter of the index
    excluded: jax.Array  # int32[batch, excluded], rows of the table, or one beyond it where a list is shorter
    # int32[batch, excluded]: the first level at which a prefix of the row has no item left that is not excluded. From
    # there on the prefix is no child.
    empty_from: jax.Array
    codes: jax.Array  # int32[batch, excluded, tables], the row's codes at the levels that have boundary tables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeamState:
    """Where each beam of a search stands, in the order of the table; dead ones are last.

    A beam with score -inf is dead: it has no rows, and no children.
    """

    first: jax.Array  # int32[batch, beams], first row of the beam's range
    end: jax.Array  # int32[batch, beams], one past the last row
    prefix: jax.Array  # int32[batch, beams], number of the beam's prefix among all of its level that could be
    root: jax.Array  # int32[batch, beams], the code of the first level
    scores: jax.Array  # float32[batch, beams], log-probability of the codes so far
    pruned: jax.Array  # float32[batch], the best score of all beams that were left behind; -inf if none was
    drawn: Drawn | None  # where the search samples
    level: int = dataclasses.field(metadata={"static": True})  # the level that is chosen next

    @property
    def beams(self) -> int:
        return self.scores.shape[1]

    @property
    def keys(self) -> jax.Array:
        """float32[batch, beams]: what beams are chosen by."""
        return self.scores if self.drawn is None else self.drawn.perturbed


class Expansion(NamedTuple):
    """The chosen children of all beams, in the order of the table."""

    parents: jax.Array  # int32[batch, k], the beam that each came from
    codes: jax.Array  # int32[batch, k]
    scores: jax.Array  # float32[batch, k], -inf where there are fewer children
    state: BeamState  # at the next level
    kept: jax.Array  # bool[], whether every beam has become its only child: nothing needs to be reordered


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CatalogueIndex(IndexArrays):
    """A pytree of arrays: pass it to jitted functions as an argument. Built by `CatalogueIndex.build`."""

    @staticmethod
    def build(codes: np.ndarray, sizes: tuple[int, ...], boundary_budget: int | None = None) -> "CatalogueIndex":
        """The index of `codes` uint16[items, levels], without filters; see `SortedTable.build` and `Layout.fitting`."""
        table = SortedTable.build(codes, sizes)
        layout = Layout.fitting([table], boundary_budget)
        return CatalogueIndex.of(jax.tree.map(jnp.asarray, arrays(table, layout, [filter_of(table, layout)])))

    @classmethod
    def of(cls, index: IndexArrays) -> Self:
        """The same arrays, searched as this class does it."""
        return cls(*(getattr(index, field.name) for field in dataclasses.fields(index)))

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.layout.sizes

    @property
    def levels(self) -> int:
        return len(self.sizes)

    @property
    def tables(self) -> int:
        return self.layout.tables

    def start(self, batch: int) -> BeamState:
        """One beam for each row of the batch: the whole catalogue, with probability 1."""
        zeros = jnp.zeros((batch, 1), jnp.int32)
        end = jnp.broadcast_to(self.count, zeros.shape)
        scores = zeros.astype(jnp.float32)
        return BeamState(zeros, end, zeros, zeros, scores, jnp.full(batch, -jnp.inf), drawn=None, level=0)

    def expand(
        self,
        state: BeamState,
        logits: jax.Array,
        k: int,
        constraints: Constraints | None = None,
        sample: Sampling | None = None,
        most: jax.Array | None = None,
    ) -> Expansion:
        """Chooses the k best children of all beams, by the log-probability of their codes.

        A child's score is its parent's plus log softmax(logits)[code] over *all* codes of the level, also those that
        lead to no item: scores stay the model's own likelihoods. Of equal scores the one that stands first in the
        table wins, at this and every later level: the result does not depend on how the search went. Where there are
        fewer than k children the rest is dead: score -inf, parent and code 0.

        Args:
          state: Where the beams stand.
          logits: [batch, beams, sizes[state.level]].
          k: Beams of the next level.
          constraints: What each row of the batch may get; by default everything.
          sample: Draws the children instead (genrec.decoding.sampling).
          most: int32[batch], the most beams that may share a code of the first level.
        """
        scores = self.score(state, *self.normalize(state, logits), constraints)
        drawn = None if sample is None else self.draw(state, scores, sample)
        return self.choose(state, scores, drawn, k, most)

    def normalize(self, state: BeamState, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What to add to the logits for scores, float32[batch, beams], and the logits in float32.

        One number a beam, so that no array of log-probabilities is made.
        """
        size = self.sizes[state.level]
        if logits.shape != (*state.scores.shape, size):
            raise ValueError(
                f"logits of level {state.level} have shape {logits.shape}, not {(*state.scores.shape, size)} "
                "[batch, beams, codes of the level]"
            )
        # Low precision would make ties of different scores, and is slow to sort on CPU.
        logits = logits.astype(jnp.float32)
        return state.scores - jax.nn.logsumexp(logits, axis=-1), logits

    def score(self, state: BeamState, base: jax.Array, logits: jax.Array, constraints: Constraints | None) -> jax.Array:
        """float32[batch, beams, children]: scores of all that could be a child; -inf where there is none."""
        if state.level < self.tables:
            exists = self._existing_codes(state, constraints)
        else:
            exists = self._existing_rows(state, constraints)
            # Rows beyond the range may hold codes of the next prefix, which have logits too: `exists` hides them.
            logits = jnp.take_along_axis(logits, self._codes(state), axis=-1)
        # By rounding, a sum may exceed its first part by a little; a child is never more likely than its parent.
        scores = jnp.minimum(base[..., None] + logits, state.scores[..., None])
        scores = jnp.where(exists, scores, -jnp.inf)
        if constraints is None or not constraints.excluded.shape[1]:
            return scores
        return self._without_empty(state, scores, constraints)

    def draw(self, state: BeamState, scores: jax.Array, sample: Sampling) -> Drawn:
        """What the children of [batch, beams, children] are chosen by, instead of their scores."""
        # One number for each code, wherever the index keeps it: what is drawn depends on no layout.
        noise = sampling.noise(sample.seeds, state.level, (state.beams, self.sizes[state.level]))
        if state.level >= self.tables:
            noise = jnp.take_along_axis(noise, self._codes(state), axis=-1)
        parents = state.drawn or Drawn(state.scores, state.scores)
        return sampling.draw(parents, scores, state.scores, noise, sample)

    def choose(
        self, state: BeamState, scores: jax.Array, drawn: Drawn | None, k: int, most: jax.Array | None
    ) -> Expansion:
        """The k best of [batch, beams, children], as `expand` gives them, or those that were drawn best."""
        batch, beams, children = scores.shape
        keys = scores if drawn is None else drawn.perturbed
        if most is not None and state.level:
            keys = top_k.at_most(keys, state.root, most)
        flat = keys.reshape(batch, -1)
        if state.level >= self.tables and k == beams:
            # Below the tables most beams come down to one item: each then stays where it is.
            only = ((keys > -jnp.inf).sum(axis=-1) <= 1).all()
            chosen, rest = jax.lax.cond(only, lambda keys: _only_children(keys), lambda _: top_k.best(flat, k), keys)
        else:
            only = jnp.array(False)
            chosen, rest = top_k.best(flat, k)
        live = chosen < beams * children
        scores, drawn = jax.tree.map(lambda x: take(x.reshape(batch, -1), chosen), (scores, drawn))
        chosen = jnp.where(live, chosen, 0)
        parents, places = chosen // children, chosen % children
        codes, first, end, prefix = self._descend(state, parents, places)
        root = jnp.take_along_axis(state.root, parents, axis=1) if state.level else codes
        parents, codes, first, end, prefix, root = (
            jnp.where(live, x, 0) for x in (parents, codes, first, end, prefix, root)
        )
        pruned = jnp.maximum(state.pruned, rest)
        following = BeamState(first, end, prefix, root, scores, pruned, drawn, level=state.level + 1)
        return Expansion(parents, codes, scores, following, only)

    def _filter(self, constraints: Constraints | None, batch: int) -> jax.Array:
        """int32[batch, 1], the filter of each row."""
        return jnp.zeros((batch, 1), jnp.int32) if constraints is None else constraints.filters[:, None]

    def _existing_codes(self, state: BeamState, constraints: Constraints | None) -> jax.Array:
        """bool[batch, beams, codes of the level]."""
        words = self.filters.exists[state.level][self._filter(constraints, len(state.scores)), state.prefix]
        bits = (words[..., None] >> jnp.arange(BITS, dtype=jnp.uint32)) & 1  # [batch, beams, words, 32]
        return bits.reshape(*state.scores.shape, -1)[..., : self.sizes[state.level]] > 0

    def _codes(self, state: BeamState) -> jax.Array:
        """int32[batch, beams, window]: codes of the rows of each beam."""
        later = state.level - self.tables
        return _read(self.columns[later], state.first, self.layout.windows[later]).astype(jnp.int32)

    def _existing_rows(self, state: BeamState, constraints: Constraints | None) -> jax.Array:
        """bool[batch, beams, window]: which of these rows begin a child."""
        window = self.layout.windows[state.level - self.tables]
        inside = jnp.arange(window) < (state.end - state.first)[..., None]
        return inside & (self._shared(state.first, window, constraints) <= state.level)

    def _shared(self, first: jax.Array, window: int, constraints: Constraints | None) -> jax.Array:
        """uint8[batch, beams, window], of the filters' `shared` from each `first` on."""
        rows = first[..., None] + jnp.arange(window)
        return self.filters.shared[self._filter(constraints, len(first))[..., None], rows]

    def _without_empty(self, state: BeamState, scores: jax.Array, constraints: Constraints) -> jax.Array:
        """Scores with -inf for children all of whose eligible items are excluded.

        An excluded row lies in at most one beam, and within it in one child: as many single places as excluded rows.
        """
        rows = constraints.excluded  # [batch, excluded]
        # Beams are in table order, so the one that could hold a row is the last that begins no later.
        first = jnp.where(state.end > state.first, state.first, self.layout.capacity)
        no_later = first[:, None] <= rows[..., None]  # [batch, excluded, beams]
        beam = jnp.where(no_later, jnp.arange(state.beams), -1).max(axis=-1)  # [batch, excluded]
        inside = (beam >= 0) & (rows < jnp.take_along_axis(state.end, jnp.maximum(beam, 0), axis=1))
        if state.level < self.tables:
            place = constraints.codes[..., state.level]
        else:
            # Where a child is empty the row that stands for it is excluded too: each row speaks for itself.
            place = rows - jnp.take_along_axis(state.first, jnp.maximum(beam, 0), axis=1)
        empty = inside & (constraints.empty_from <= state.level)
        batch, beams, children = scores.shape
        places = jnp.where(empty, beam * children + place, beams * children)
        flat = scores.reshape(batch, -1).at[jnp.arange(batch)[:, None], places].set(-jnp.inf, mode="drop")
        return flat.reshape(scores.shape)

    def _descend(self, state: BeamState, parents: jax.Array, places: jax.Array) -> tuple[jax.Array, ...]:
        """Codes, first rows, ends and prefix numbers of the children at `places` of their parents, each [batch, k]."""
        if state.level < self.tables:
            prefix = jnp.take_along_axis(state.prefix, parents, axis=1) * self.sizes[state.level] + places
            starts = self.starts[state.level]
            return places, starts[prefix], starts[prefix + 1], prefix
        later = state.level - self.tables
        column, window = self.columns[later], self.layout.windows[later]
        first = jnp.take_along_axis(state.first, parents, axis=1) + places
        code = column[first].astype(jnp.int32)
        if window == 1:
            return code, first, first + 1, jnp.zeros_like(first)
        end = jnp.take_along_axis(state.end, parents, axis=1)
        inside = first[..., None] + jnp.arange(window) < end[..., None]
        run = inside & (_read(column, first, window) == code[..., None].astype(column.dtype))  # [batch, k, window]
        return code, first, first + run.sum(axis=-1, dtype=jnp.int32), jnp.zeros_like(first)

    def single(self, state: BeamState) -> jax.Array:
        """bool[]: whether every live beam has come down to one row, whose other codes `remaining` tells."""
        return (state.end - state.first <= 1).all()

    def follow(self, state: BeamState, logits: jax.Array, codes: jax.Array) -> BeamState:
        """The next level's state where every live beam is one row, whose codes are int32[batch, beams]."""
        base, logits = self.normalize(state, logits)
        scores = base + jnp.take_along_axis(logits, codes[..., None], axis=-1)[..., 0]
        scores = jnp.where(state.scores > -jnp.inf, jnp.minimum(scores, state.scores), -jnp.inf)
        return dataclasses.replace(state, scores=scores, level=state.level + 1)

    def remaining(self, state: BeamState) -> list[jax.Array]:
        """int32[batch, beams] for each level from the state's on: the codes of the beams' first rows."""
        return [column[state.first].astype(jnp.int32) for column in self.columns[state.level - self.tables :]]

    def best_items(
        self, state: BeamState, constraints: Constraints | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The items of complete beams (after the last level), their scores and first codes, each [batch, n].

        Best first, in the order of the beams' keys, and of equal ones in table order; items that share their codes
        are all there, in the order of their numbers. Item -1 and score -inf in the last places, where there are none.
        """
        _, order = jax.lax.top_k(state.keys, state.beams)
        first, end, scores, root = (
            jnp.take_along_axis(x, order, axis=1) for x in (state.first, state.end, state.scores, state.root)
        )
        items = self._leaves(first, end, constraints)
        leaf = items.shape[-1]
        items = items.reshape(len(items), -1)
        if leaf > 1:
            scores, root = (jnp.repeat(x, leaf, axis=1) for x in (scores, root))
            front = jnp.argsort(items < 0, axis=1, stable=True)
            items, scores, root = (jnp.take_along_axis(x, front, axis=1) for x in (items, scores, root))
        return items, jnp.where(items >= 0, scores, -jnp.inf), root

    def _leaves(self, first: jax.Array, end: jax.Array, constraints: Constraints | None) -> jax.Array:
        """int32[batch, beams, leaf]: the items of complete beams; -1 where there is none."""
        leaf = self.layout.windows[-1]
        rows = first[..., None] + jnp.arange(leaf)
        eligible = rows < end[..., None]
        if leaf > 1:  # otherwise the search has seen to the rest
            eligible &= self._shared(first, leaf, constraints) != NOT_ELIGIBLE
            if constraints is not None and constraints.excluded.shape[1]:
                eligible &= (rows[..., None] != constraints.excluded[:, None, None]).all(axis=-1)
        return jnp.where(eligible, self.items[rows], -1)


def _read(array: jax.Array, first: jax.Array, width: int) -> jax.Array:
    """array[first : first + width] for each first, int32[batch, beams]: [batch, beams, width]."""
    return array[first[..., None] + jnp.arange(width)]


def take(x: jax.Array, chosen: jax.Array, none: float = -jnp.inf) -> jax.Array:
    """x[b, chosen[b, i]] of [batch, n], and `none` where chosen is n."""
    n = x.shape[1]
    return jnp.where(chosen < n, jnp.take_along_axis(x, jnp.minimum(chosen, n - 1), axis=1), none)


def _only_children(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What `choice.best` gives for [batch, beams, children] where no beam has two: each beam's own child."""
    batch, beams, children = keys.shape
    place = jnp.argmax(keys, axis=-1)
    chosen = jnp.arange(beams) * children + place
    chosen = jnp.where(keys.max(axis=-1) > -jnp.inf, chosen, beams * children)
    return chosen.astype(jnp.int32), jnp.full(batch, -jnp.inf, keys.dtype)
