"""Catalogue index: a sorted table of codes that constrains a beam search to items that exist.

Items are sorted by their codes, so that all items with a common prefix are neighbors, and a beam *is* a range of rows
[first, end). For example, three items with two levels:

    row  codes  item
    0    0 3    7        the beam "0" is the rows [0, 2); its children are the codes 3 and 5
    1    0 5    2        the beam "0 5" is the row [1, 2): item 2
    2    4 0    9        the beam "4" is the row [2, 3)

How the children of a beam are found depends on the level:

* while the number of possible prefixes fits a budget, by a *boundary table*: a bit for each child is set if it exists,
  and the first row of each prefix gives its range;
* below, by a *window*: the rows of the beam themselves, of which the first of each run of equal codes is a child. The
  window is as wide as the largest range of that level, which is small because the levels above have divided the
  catalogue. A run starts where a row shares too few leading codes with the previous row, which is stored;
* where codes pile up, so that ranges are much larger than their numbers of children, by the *runs* themselves: the
  first rows and the codes of all children of the level are stored one after the other. The children of a beam are
  neighbors there too, so that a window of them is as wide as the largest number of children. Their places follow from
  the rows of the beam by counting the runs before them, in bits.

The candidates of a window, rows or children, are the possible children of a beam. Where windows are wide, a narrower
search is compiled beside the wide one, for batches whose beams all have few candidates.

A *filter* consists of the same arrays for some of the items: the bits of the children that lead to an eligible item,
and the number of codes that an eligible row shares with the previous *eligible* row. So a filtered search takes the
same steps as an unfiltered one and has no dead ends, and every row of a batch may have its own filter.

Shapes do not depend on the number of items, only on the `Layout`, which leaves room: a changed catalogue or another
filter is other arrays for the same compiled function.
"""

import dataclasses
from typing import Generic, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from genrec.decoding import top_k
from genrec.decoding.index_arrays import (
    BITS,
    NOT_ELIGIBLE,
    ArrayT,
    IndexArrays,
    Layout,
    Runs,
    filter_arrays,
    index_arrays,
)
from genrec.decoding.sampling import PerturbedScores, Sampling, gumbel_noise, perturb
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.transitions import FLOOR

WIDE_WINDOW = 64  # from this width on, a search of windows narrower by the next factor is compiled too
NARROWER = 8


class Constraints(NamedTuple, Generic[ArrayT]):
    """The eligible items of each row of a batch, made by `LiveIndex.constraints`."""

    filters: ArrayT  # int32[batch], the slot of a filter in the index
    excluded: ArrayT  # int32[batch, excluded], rows of the table; padded with a row beyond it
    # int32[batch, excluded]: the first level at which all eligible items with the row's prefix are excluded. From there
    # on the prefix is no child.
    empty_from: ArrayT
    codes: ArrayT  # int32[batch, excluded, tables], the row's codes at the levels with boundary tables


MaybeConstraints = Constraints[jax.Array] | None  # None: every item is eligible


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeamState:
    """Beams of a search in table order, dead beams last. A dead beam has score -inf, no rows and no children."""

    first: jax.Array  # int32[batch, beams], first row of the beam's range
    end: jax.Array  # int32[batch, beams], one past the last row
    prefix: jax.Array  # int32[batch, beams], number of the beam's prefix among all possible ones of its level
    root: jax.Array  # int32[batch, beams], the code of the first level
    scores: jax.Array  # float32[batch, beams], log-probability of the codes so far
    pruned: jax.Array  # float32[batch], the best score of all pruned beams; -inf if there are none
    perturbed: PerturbedScores | None  # [batch, beams], if the search samples
    level: int = dataclasses.field(metadata={"static": True})  # the level to choose next

    @property
    def beams(self) -> int:
        return self.scores.shape[1]

    @property
    def selection_scores(self) -> jax.Array:
        """float32[batch, beams]: the scores that select beams, perturbed if the search samples."""
        return self.scores if self.perturbed is None else self.perturbed.with_noise


class Expansion(NamedTuple):
    """The chosen children of all beams, in table order."""

    parents: jax.Array  # int32[batch, k], the beam of each child
    codes: jax.Array  # int32[batch, k]
    scores: jax.Array  # float32[batch, k], -inf if there are fewer children
    state: BeamState  # at the next level
    kept: jax.Array  # bool[], whether every beam is replaced by its only child, so that no cache is reordered


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CatalogueIndex(IndexArrays[jax.Array]):
    """The index of a catalogue, a pytree: pass it to jitted functions as an argument. Built by `build`."""

    @staticmethod
    def build(codes: np.ndarray, sizes: tuple[int, ...], boundary_budget: int | None = None) -> "CatalogueIndex":
        """Builds the index of `codes` uint16[items, levels]; see `SortedTable.build` and `Layout.fitting`."""
        table = SortedTable.build(codes, sizes)
        layout = Layout.fitting([table], boundary_budget)
        arrays = index_arrays(table, layout, [filter_arrays(table, layout)])
        return CatalogueIndex.of(jax.tree.map(jnp.asarray, arrays))

    @classmethod
    def of(cls, index: IndexArrays[jax.Array]) -> Self:
        """Returns the same arrays as an index of this class."""
        return cls(**{field.name: getattr(index, field.name) for field in dataclasses.fields(index)})

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
        """Returns one beam for each row of the batch, the root: the whole catalogue, with probability 1."""
        zeros = jnp.zeros((batch, 1), jnp.int32)
        end = jnp.broadcast_to(self.count, zeros.shape)
        scores = zeros.astype(jnp.float32)
        return BeamState(zeros, end, zeros, zeros, scores, jnp.full(batch, -jnp.inf), perturbed=None, level=0)

    def expand(
        self,
        state: BeamState,
        logits: jax.Array,
        k: int,
        constraints: MaybeConstraints = None,
        sampling: Sampling[jax.Array] | None = None,
        limit: jax.Array | None = None,
    ) -> Expansion:
        """Chooses the k best children of all beams, by the log-probability of their codes.

        The score of a child is that of its parent plus log softmax(logits)[code] over *all* codes of the level, even
        those that lead to no item: scores stay the model's own likelihoods. Of equal scores the first in table order
        wins, at this and every later level, so that the result does not depend on the order of the search. If there
        are fewer than k children, the rest is dead: score -inf, parent and code 0.

        Logits are [batch, beams, sizes[state.level]]. With `sampling`, children are sampled instead. `limit`
        int32[batch] is the largest number of beams with the same code of the first level.
        """
        base, logits = self.normalize(state, logits)
        if sampling is None:
            return self.choose_best(state, base, logits, k, constraints, limit)
        scores = self.score(state, base, logits, constraints)
        return self.choose(state, scores, self.perturb(state, scores, sampling), k, limit)

    def choose_best(
        self,
        state: BeamState,
        base: jax.Array,
        logits: jax.Array,
        k: int,
        constraints: MaybeConstraints,
        limit: jax.Array | None,
    ) -> Expansion:
        """Chooses the k children of best `score`, among fewer candidates if the beams of this batch have few.

        A sampling search reads all candidates instead: what it draws must not depend on the other rows, not even by
        the rounding of a sum.
        """

        def among(index: CatalogueIndex) -> Expansion:
            return index.choose(state, index.score(state, base, logits, constraints), None, k, limit)

        later = state.level - self.tables
        if later < 0 or self.layout.windows[later] < WIDE_WINDOW:
            return among(self)
        windows = list(self.layout.windows)
        windows[later] //= NARROWER
        narrow = dataclasses.replace(self, layout=dataclasses.replace(self.layout, windows=tuple(windows)))
        first, end = self._candidates(state)
        fits = (end - first).max() <= windows[later]
        return jax.lax.cond(fits, lambda: among(narrow), lambda: among(self))

    def normalize(self, state: BeamState, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns float32[batch, beams], to be added to the logits for scores, and the logits in float32.

        One number per beam, so that no array of log-probabilities is materialized.
        """
        size = self.sizes[state.level]
        if logits.shape != (*state.scores.shape, size):
            raise ValueError(
                f"logits of level {state.level} have shape {logits.shape}, not {(*state.scores.shape, size)} "
                "[batch, beams, codes of the level]"
            )
        # Low precision would round different scores to ties, and is slow to sort on CPU.
        logits = logits.astype(jnp.float32)
        return state.scores - jax.nn.logsumexp(logits, axis=-1), logits

    def score(self, state: BeamState, base: jax.Array, logits: jax.Array, constraints: MaybeConstraints) -> jax.Array:
        """Returns float32[batch, beams, children]: the scores of all possible children; -inf if one does not exist."""
        if state.level < self.tables:
            exists = self._existing_codes(state, constraints)
        else:
            exists = self._existing_candidates(state, constraints)
            # Candidates beyond the range may have codes of the next prefix, whose logits `exists` masks.
            logits = jnp.take_along_axis(logits, self._codes(state), axis=-1, mode="promise_in_bounds")
        # A child is never more likely than its parent, although the rounded sum may be.
        scores = jnp.minimum(base[..., None] + logits, state.scores[..., None])
        scores = jnp.where(exists, scores, -jnp.inf)
        if constraints is None or not constraints.excluded.shape[1]:
            return scores
        return self._mask_empty(state, scores, constraints)

    def perturb(self, state: BeamState, scores: jax.Array, sampling: Sampling[jax.Array]) -> PerturbedScores:
        """Returns the perturbed scores of the children [batch, beams, children], which select them when sampling."""
        # Noise per code rather than per column, so that draws do not depend on the layout.
        noise = gumbel_noise(sampling.seeds, state.level, (state.beams, self.sizes[state.level]))
        if state.level >= self.tables:
            noise = jnp.take_along_axis(noise, self._codes(state), axis=-1)
        parents = state.perturbed or PerturbedScores(state.scores, state.scores)
        return perturb(parents, scores, state.scores, noise, sampling)

    def choose(
        self, state: BeamState, scores: jax.Array, perturbed: PerturbedScores | None, k: int, limit: jax.Array | None
    ) -> Expansion:
        """Chooses the k best of [batch, beams, children] by their scores or, when sampling, their perturbed scores."""
        batch, beams, children = scores.shape
        selection = scores if perturbed is None else perturbed.with_noise
        if limit is not None and state.level:
            selection = top_k.limit_per_group(selection, state.root, limit)
        flat = selection.reshape(batch, -1)
        if state.level >= self.tables and k == beams:
            # Below the tables most beams have a single item left: no sort is needed. Candidates, of which some may be
            # no children, are counted where a further pass over the scores would take long.
            first, end = self._candidates(state)
            counts = end - first if children >= WIDE_WINDOW else (selection > -jnp.inf).sum(axis=-1)
            only = (counts <= 1).all()
            chosen, rest = jax.lax.cond(only, _only_children, lambda _: top_k.top_k(flat, k), selection)
        else:
            only = jnp.array(False)
            chosen, rest = top_k.top_k(flat, k)
        live = chosen < beams * children
        scores, perturbed = jax.tree.map(lambda x: take(x.reshape(batch, -1), chosen), (scores, perturbed))
        chosen = jnp.where(live, chosen, 0)
        parents, places = chosen // children, chosen % children
        codes, first, end, prefix = self._descend(state, parents, places)
        root = jnp.take_along_axis(state.root, parents, axis=1) if state.level else codes
        parents, codes, first, end, prefix, root = (
            jnp.where(live, x, 0) for x in (parents, codes, first, end, prefix, root)
        )
        pruned = jnp.maximum(state.pruned, rest)
        following = BeamState(first, end, prefix, root, scores, pruned, perturbed, level=state.level + 1)
        return Expansion(parents, codes, scores, following, only)

    def _filter(self, constraints: MaybeConstraints, batch: int) -> jax.Array:
        """Returns int32[batch, 1], the filter of each row."""
        return jnp.zeros((batch, 1), jnp.int32) if constraints is None else constraints.filters[:, None]

    def _existing_codes(self, state: BeamState, constraints: MaybeConstraints) -> jax.Array:
        """Returns bool[batch, beams, codes of the level]: which codes of the level are children."""
        words = self.filters.exists[state.level][self._filter(constraints, len(state.scores)), state.prefix]
        return _bits(words, self.sizes[state.level])

    def _codes(self, state: BeamState) -> jax.Array:
        """Returns int32[batch, beams, window]: the codes of the candidates of each beam."""
        later = state.level - self.tables
        first, _ = self._candidates(state)
        return _read(self.columns[later], first, self.layout.windows[later])

    def _candidates(self, state: BeamState) -> tuple[jax.Array, jax.Array]:
        """Returns int32[batch, beams], the first candidate of each beam and one past the last: rows, or children."""
        runs = self.runs[state.level - self.tables]
        return (state.first, state.end) if runs is None else (_children(runs, state.first), _children(runs, state.end))

    def _existing_candidates(self, state: BeamState, constraints: MaybeConstraints) -> jax.Array:
        """Returns bool[batch, beams, window]: which candidates are children that lead to an eligible item."""
        later = state.level - self.tables
        window, children = self.layout.windows[later], self.filters.children[later]
        first, end = self._candidates(state)
        inside = jnp.arange(window) < (end - first)[..., None]
        if children is None:  # of the rows of a child, the first
            return inside & (self._shared(first, window, constraints) <= state.level)
        places = (first // BITS)[..., None] + jnp.arange(-(-window // BITS) + 1)
        words = children[self._filter(constraints, len(first))[..., None], places]
        # Shifted by whole words and by bits, so that the first candidate has the lowest bit.
        shift = (first % BITS).astype(jnp.uint32)[..., None]
        words = (words[..., :-1] >> shift) | ((words[..., 1:] << (BITS - 1 - shift)) << 1)
        return inside & _bits(words, window)

    def _shared(self, first: jax.Array, window: int, constraints: MaybeConstraints) -> jax.Array:
        """Returns uint8[batch, beams, window]: `shared` of each row's filter, from row `first` of each beam on."""
        rows = first[..., None] + jnp.arange(window)
        return self.filters.shared[self._filter(constraints, len(first))[..., None], rows]

    def _mask_empty(self, state: BeamState, scores: jax.Array, constraints: Constraints[jax.Array]) -> jax.Array:
        """Returns the scores with -inf for children all of whose eligible items are excluded.

        An excluded row lies in at most one beam and one child, so that at most one score per excluded row changes.
        """
        rows = constraints.excluded  # [batch, excluded]
        # Beams are in table order, so the only one that can contain a row is the last that starts no later.
        first = jnp.where(state.end > state.first, state.first, self.layout.capacity)
        no_later = first[:, None] <= rows[..., None]  # [batch, excluded, beams]
        beam = jnp.where(no_later, jnp.arange(state.beams), -1).max(axis=-1)  # [batch, excluded]
        inside = (beam >= 0) & (rows < jnp.take_along_axis(state.end, jnp.maximum(beam, 0), axis=1))
        if state.level < self.tables:
            place = constraints.codes[..., state.level]
        else:
            # If a child is empty, its first row is excluded too: in a window, each row masks itself.
            runs, (begin, _) = self.runs[state.level - self.tables], self._candidates(state)
            candidate = rows if runs is None else _children(runs, rows + 1) - 1
            place = candidate - jnp.take_along_axis(begin, jnp.maximum(beam, 0), axis=1)
        empty = inside & (constraints.empty_from <= state.level)
        batch, beams, children = scores.shape
        places = jnp.where(empty, beam * children + place, beams * children)
        flat = scores.reshape(batch, -1).at[jnp.arange(batch)[:, None], places].set(-jnp.inf, mode="drop")
        return flat.reshape(scores.shape)

    def _descend(self, state: BeamState, parents: jax.Array, places: jax.Array) -> tuple[jax.Array, ...]:
        """Returns codes, first rows, ends and prefixes [batch, k] of the children at `places` of their parents."""
        if state.level < self.tables:
            prefix = jnp.take_along_axis(state.prefix, parents, axis=1) * self.sizes[state.level] + places
            starts = self.starts[state.level]
            return places, starts[prefix], starts[prefix + 1], prefix
        later = state.level - self.tables
        column, window, runs = self.columns[later], self.layout.windows[later], self.runs[later]
        begin = jnp.take_along_axis(self._candidates(state)[0], parents, axis=1)
        first = begin + places
        code = column[first]
        if runs is not None:
            return code, runs.starts[first], runs.starts[first + 1], jnp.zeros_like(first)
        if window == 1:
            return code, first, first + 1, jnp.zeros_like(first)
        # All rows of the code, not from the first eligible one on: `log_shares` are of all items.
        end, codes = jnp.take_along_axis(state.end, parents, axis=1), _read(column, begin, window)
        inside = begin[..., None] + jnp.arange(window) < end[..., None]
        first = begin + (inside & (codes < code[..., None])).sum(axis=-1, dtype=jnp.int32)
        rows = (inside & (codes == code[..., None])).sum(axis=-1, dtype=jnp.int32)
        return code, first, first + rows, jnp.zeros_like(first)

    def single(self, state: BeamState) -> jax.Array:
        """Returns bool[]: whether every live beam has a single row, whose later codes `remaining` returns."""
        return (state.end - state.first <= 1).all()

    def follow(self, state: BeamState, logits: jax.Array, codes: jax.Array) -> BeamState:
        """Advances beams of a single row each to the next level by their known codes int32[batch, beams]."""
        base, logits = self.normalize(state, logits)
        scores = base + jnp.take_along_axis(logits, codes[..., None], axis=-1)[..., 0]
        scores = jnp.where(state.scores > -jnp.inf, jnp.minimum(scores, state.scores), -jnp.inf)
        return dataclasses.replace(state, scores=scores, level=state.level + 1)

    def remaining(self, state: BeamState) -> list[jax.Array]:
        """Returns int32[batch, beams] for each level from the state's on: the codes of the beams' first rows."""
        return [
            column[state.first if runs is None else _children(runs, state.first)]
            for column, runs in list(zip(self.columns, self.runs, strict=True))[state.level - self.tables :]
        ]

    def log_shares(self, state: BeamState, transitions: jax.Array) -> jax.Array:
        """Returns float32[batch, beams, codes of the level]: the log-shares of each beam's codes.

        The share of a code is the probability of its rows relative to that of the beam (`transitions.CodeShares`).
        `transitions` uint32[batch, capacity + 1] are probabilities of rows, cumulated from 0, in units of 2**-31:
        integers, so that the sum over a range is the exact difference of its ends. Made by `LiveIndex.cumulated`.
        """
        total = _at(transitions, state.end) - _at(transitions, state.first)
        sums = self._sums_of_codes(state, transitions)
        return jnp.log(sums.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)[..., None] + FLOOR)

    def _sums_of_codes(self, state: BeamState, transitions: jax.Array) -> jax.Array:
        """Returns uint32[batch, beams, codes of the level]: the sums of the probabilities of each code's rows."""
        size, (batch, beams) = self.sizes[state.level], state.scores.shape
        if state.level < self.tables:
            ends = self.starts[state.level][state.prefix[..., None] * size + jnp.arange(size + 1)]
            sums = jnp.diff(_at(transitions, ends.reshape(batch, -1)).reshape(batch, beams, size + 1), axis=-1)
            return jnp.where((state.end > state.first)[..., None], sums, 0)
        window, runs = self.layout.windows[state.level - self.tables], self.runs[state.level - self.tables]
        first, end = self._candidates(state)
        candidates = first[..., None] + jnp.arange(window + 1)
        rows = candidates if runs is None else runs.starts[candidates]
        masses = jnp.diff(_at(transitions, rows.reshape(batch, -1)).reshape(batch, beams, window + 1), axis=-1)
        codes = jnp.where(candidates[..., :-1] < end[..., None], self._codes(state), size)  # dropped beyond the range
        place = jnp.arange(batch)[:, None, None], jnp.arange(beams)[:, None], codes
        return jnp.zeros((batch, beams, size), jnp.uint32).at[place].add(masses, mode="drop")

    def only_log_shares(self, level: int, codes: jax.Array) -> jax.Array:
        """Returns the log-shares of beams with a single row, whose codes at the level are int32[batch, beams]."""
        only = codes[..., None] == jnp.arange(self.sizes[level])
        return jnp.where(only, np.float32(np.log1p(FLOOR)), np.float32(np.log(FLOOR)))

    def best_items(
        self, state: BeamState, constraints: MaybeConstraints = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the items of complete beams (after the last level), their scores and first codes, each [batch, n].

        They are in descending order of the beams' selection scores, then in table order. Items with equal codes are all
        included, by item number. Padded with item -1 and score -inf.
        """
        _, order = jax.lax.top_k(state.selection_scores, state.beams)
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

    def _leaves(self, first: jax.Array, end: jax.Array, constraints: MaybeConstraints) -> jax.Array:
        """Returns int32[batch, beams, leaf]: the items of complete beams, padded with -1."""
        leaf = self.layout.windows[-1]
        rows = first[..., None] + jnp.arange(leaf)
        eligible = rows < end[..., None]
        if leaf > 1:  # otherwise the search has found eligible rows only
            eligible &= self._shared(first, leaf, constraints) != NOT_ELIGIBLE
            if constraints is not None and constraints.excluded.shape[1]:
                eligible &= (rows[..., None] != constraints.excluded[:, None, None]).all(axis=-1)
        return jnp.where(eligible, self.items[rows], -1)


def _at(cumulated: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns cumulated[b, rows[b, n]] of uint32[batch, capacity + 1], for rows int32[batch, n] up to the capacity."""
    return jnp.take_along_axis(cumulated, rows, axis=1, mode="clip")


def _read(array: jax.Array, first: jax.Array, width: int) -> jax.Array:
    """Returns array[first : first + width] for each first, int32[batch, beams]: [batch, beams, width]."""
    return jax.vmap(jax.vmap(lambda start: jax.lax.dynamic_slice(array, (start,), (width,))))(first)


def _bits(words: jax.Array, count: int) -> jax.Array:
    """Returns bool[batch, beams, count]: the first bits of words uint32[batch, beams, words]."""
    bits = (words[..., None] >> jnp.arange(BITS, dtype=jnp.uint32)) & 1  # [batch, beams, words, 32]
    return bits.reshape(*words.shape[:-1], -1)[..., :count] > 0


def _children(runs: Runs[jax.Array], rows: jax.Array) -> jax.Array:
    """Returns the number of children that begin before each of `rows` int32[...], up to the capacity and 1."""
    words, place = rows // BITS, (rows % BITS).astype(jnp.uint32)
    earlier = runs.marks[words] & ((jnp.uint32(1) << place) - 1)
    return runs.before[words] + jax.lax.population_count(earlier).astype(jnp.int32)


def take(x: jax.Array, chosen: jax.Array, none: float = -jnp.inf) -> jax.Array:
    """Returns x[b, chosen[b, i]] of [batch, n], and `none` where chosen is n."""
    n = x.shape[1]
    return jnp.where(chosen < n, jnp.take_along_axis(x, jnp.minimum(chosen, n - 1), axis=1), none)


def _only_children(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the result of `top_k.top_k` for scores [batch, beams, children] where no beam has two children."""
    batch, beams, children = scores.shape
    place = jnp.argmax(scores, axis=-1)
    chosen = jnp.arange(beams) * children + place
    chosen = jnp.where(scores.max(axis=-1) > -jnp.inf, chosen, beams * children)
    return chosen.astype(jnp.int32), jnp.full(batch, -jnp.inf, scores.dtype)
