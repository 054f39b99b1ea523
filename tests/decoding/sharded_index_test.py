"""An index sharded over four devices, twice for two halves of a batch, against the same index on one device."""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec import config, sharding
from genrec.data.filters import Filter
from genrec.decoding import index_arrays
from genrec.decoding.beam_search import Diversity, RankedItems, beam_search
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.sampling import Sampling
from genrec.decoding.sharded_index import shard_bounds
from genrec.decoding.sorted_table import CatalogueError, SortedTable

BATCH, BEAMS, SHARDS = 4, 7, 4
SIZES = (9, 5, 4)
EVERY = np.array(list(itertools.product(*map(range, SIZES))), np.uint16)
MOST = 15  # items of a first code
MESH = sharding.make_mesh(config.Mesh(data=2, fsdp=1, tensor=SHARDS))
UNKNOWN = 10**6

many = functools.partial(settings, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


@functools.cache
def live_index(sharded: bool, budget: int, duplicates: bool, runs: bool) -> LiveIndex:
    """Returns an index with room for MOST items of each first code, with equal or different codes."""
    if runs:
        # As many children as there are codes, and ranges of MOST rows, at each level.
        codes = np.repeat(EVERY[::20], MOST, axis=0)
        codes[:MOST, 1], codes[MOST : 2 * MOST, 2] = np.arange(MOST) % SIZES[1], np.arange(MOST) % SIZES[2]
        with mock.patch.object(index_arrays, "WIDE_RANGE", MOST):
            mesh = MESH if sharded else None
            made = LiveIndex(SortedTable.build(codes, SIZES), None, BATCH, mesh, sharded, budget)
        assert made.index.layout.runs == (True, True)
        return made
    codes = np.repeat(EVERY[::20], MOST, axis=0) if duplicates else EVERY[np.arange(len(EVERY)) % 20 < MOST]
    table = SortedTable.build(codes, SIZES)
    return LiveIndex(table, filters=BATCH, mesh=MESH if sharded else None, sharded=sharded, boundary_budget=budget)


@functools.partial(jax.jit, static_argnames="finishes")
def search(index, logits, constraints, finishes=False, sampling=None, diversity=None):
    """Searches with a decoder whose logits depend on all codes so far, through a cache."""

    def step(codes, level, cache):
        state = jnp.zeros((BATCH, 1), jnp.int32) if codes is None else (3 * cache + codes + 1) % 5
        return jnp.asarray(logits[level])[jnp.arange(BATCH)[:, None], state], state

    def finishing(codes, level, cache):
        found = []
        for place in range(codes.shape[-1]):
            one, cache = step(codes[..., place], level + place, cache)
            found.append(one)
        return found

    finish = finishing if finishes else None
    return beam_search(step, index, BATCH, BEAMS, None, constraints, sampling, diversity, finish)


def compare(seed: int, skew: float, budget: int, duplicates: bool, runs: bool = False, **how) -> RankedItems:
    """Searches a random catalogue with random restrictions on one device and on eight."""
    random = np.random.default_rng(seed)
    weight = np.exp(-skew * EVERY[:, 0].astype(float))
    codes = EVERY[random.choice(len(EVERY), random.choice([1, 5, 30, 100]), duplicates, p=weight / weight.sum())]
    codes = np.concatenate([codes[codes[:, 0] == code][:MOST] for code in range(SIZES[0])])
    count = len(codes)
    items = random.permutation(200)[:count]
    restrictions = []
    for row in range(BATCH):
        allow = frozenset(random.permutation(items)[: count // (1 + row % 2)].tolist())
        exclude = random.permutation(items)[: random.integers(15)].tolist()
        restrictions.append(Restriction([Filter(), Filter(allow=allow)][random.integers(2)], [UNKNOWN, *exclude]))
    logits = [random.normal(0, 2, (BATCH, 5, size)).astype(np.float32) for size in SIZES]
    found = []
    for sharded in (False, True):
        live = live_index(sharded, budget, duplicates, runs)
        live.update(items, codes, remove_items=live.table.items)
        constraints = live.constraints(restrictions)
        with jax.set_mesh(live.mesh):
            found.append(jax.device_get(search(live.index, logits, constraints, **how)))
        assert live.layouts == 1
    one, shards = found
    np.testing.assert_array_equal(shards.items, one.items)
    np.testing.assert_allclose(shards.scores, one.scores, rtol=1e-5)
    np.testing.assert_allclose(shards.bound, one.bound, rtol=1e-5)
    return shards


# (boundary budget, room for duplicates, whether levels have runs, whether the decoder has `finish`)
KINDS = [
    (1000, True, False, False),
    (45, True, False, False),
    (9, True, False, False),
    (9, False, False, True),
    (9, True, True, True),
]


@pytest.mark.parametrize("budget, duplicates, runs, finishes", KINDS)
def test_a_sharded_index_gives_the_same_lists_under_any_constraints(budget, duplicates, runs, finishes):
    @many(max_examples=25)
    @given(seeds, st.sampled_from([0.0, 0.5, 3.0]))
    def check(seed, skew):
        compare(seed, skew, budget, duplicates, runs, finishes=finishes)

    check()


@pytest.mark.parametrize("top_p, runs", [(None, False), (0.7, False), (None, True)])
def test_a_sharded_index_gives_the_same_samples(top_p, runs):
    @many(max_examples=15)
    @given(seeds, st.sampled_from([0.0, 3.0]))
    def check(seed, skew):
        nucleus = None if top_p is None else np.full(BATCH, top_p, np.float32)
        row_seeds = np.random.default_rng(seed).integers(0, 2**31, BATCH).astype(np.int32)
        compare(seed, skew, 9, True, runs, sampling=Sampling(np.full(BATCH, 1.3, np.float32), nucleus, row_seeds))

    check()


def test_a_sharded_index_gives_the_same_diverse_lists():
    @many(max_examples=15)
    @given(seeds, st.integers(1, 3))
    def check(seed, most):
        limits = np.full(BATCH, most, np.int32)
        found = compare(seed, 0.5, 45, True, diversity=Diversity(limits, limits, None))
        table = live_index(True, 45, True, False).table
        codes = table.codes[table.rows_of(found.items.ravel())]
        roots = np.where(found.items < 0, -1, codes[:, 0].reshape(found.items.shape))
        assert all((roots == root).sum(axis=1).max() <= most for root in range(SIZES[0]))

    check()


def test_arrays_that_grow_with_the_catalogue_are_sharded():
    table = SortedTable.build(np.repeat(EVERY, 40, axis=0), SIZES)
    whole = LiveIndex(table, mesh=MESH).index
    shards = LiveIndex(table, mesh=MESH, sharded=True).index

    def bytes_of(index) -> int:
        """Returns the bytes on one device, without the boundary tables."""
        growing = (index.columns, index.items, index.filters.shared)
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(growing))

    assert bytes_of(shards) < 1.4 * bytes_of(whole) / SHARDS  # nine first codes do not make four equal shards


def test_updates_need_no_compilation():
    live = LiveIndex(SortedTable.build(EVERY[:60], SIZES), mesh=MESH, sharded=True, boundary_budget=9)
    logits = [np.zeros((BATCH, 5, size), np.float32) for size in SIZES]

    def items() -> list[int]:
        constraints = live.constraints([Restriction()] * BATCH)
        with jax.set_mesh(MESH):
            return np.asarray(search(live.index, logits, constraints).items)[0].tolist()

    assert items() == list(range(BEAMS))  # all are equally likely: the first of the table
    before = search._cache_size()
    live.update([99], EVERY[[100]], remove_items=[0, 2])
    assert items() == [1, 3, 4, 5, 6, 7, 8]
    live.update(remove_items=range(3, 59))
    assert items() == [1, 59, 99, -1, -1, -1, -1]
    assert search._cache_size() == before and live.layouts == 1
    new = EVERY[np.arange(1000) % len(EVERY)]  # more than the layout has room for
    live.update(np.arange(1000) + 100, new)
    assert items() == [100, 280, 460, 640, 820, 1000, 1]
    assert live.layouts == 2


def test_shards_are_ranges_of_first_codes_of_about_the_same_size():
    first = np.repeat(np.arange(6, dtype=np.uint16), [5, 1, 2, 2, 6, 4])
    table = SortedTable.build(first[:, None], (9,))

    def shards(count: int) -> list[int]:
        found = table.split(shard_bounds(table, count))
        assert np.concatenate([part.items for part in found]).tolist() == list(range(20))
        for one, other in itertools.pairwise(part.codes[:, 0] for part in found if len(part)):
            assert one[-1] < other[0]
        return [len(part) for part in found]

    assert [shards(count) for count in (1, 2, 4)] == [[20], [10, 10], [5, 5, 6, 4]]
    assert len(shards(8)) == 8 and 0 in shards(8)


def test_a_sharded_index_needs_a_boundary_table_of_the_first_level():
    with pytest.raises(CatalogueError, match="boundary_budget=8 .*9"):
        LiveIndex(SortedTable.build(EVERY, SIZES), mesh=MESH, sharded=True, boundary_budget=8)
