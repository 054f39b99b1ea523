"""Retrieval with a tiny model against its own losses for every item, on one device and on eight."""

import collections
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from genrec import config, sharding
from genrec.data.filters import Filter
from genrec.decoding.beam_search import Diversity, RankedItems
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sampling import Sampling
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline.examples import Histories, Segment, Tokenizer, histories, pack
from genrec.models.recommender import Recommender

SIZES = (5, 4, 3)
EVERY = np.array(list(itertools.product(*map(range, SIZES))), np.uint16)  # item i has the codes EVERY[i]
ITEMS = 24  # items of the catalogue
USERS = 8
MAX_HISTORY = 4
UNKNOWN = 10**6
MODEL = config.Model(
    width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, position_buckets=8, user_tokens=5
)
TOKENS = Tokenizer((EVERY + np.cumsum((0, *SIZES[:-1]))).astype(np.int32), sum(SIZES), MODEL.user_tokens)


@functools.cache
def params(seed: int = 0) -> nnx.State:
    """Returns parameters far from uniform, so that some lists are certified early."""
    made = nnx.state(Recommender(MODEL, SIZES, nnx.Rngs(seed)))
    return jax.tree.map(lambda x: 2 * x if x.ndim > 1 else x, made)


def graphdef() -> nnx.GraphDef:
    return nnx.graphdef(nnx.eval_shape(lambda: Recommender(MODEL, SIZES, nnx.Rngs(0))))


def users(count: int) -> list[tuple[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [(f"u{i}", random.integers(0, len(EVERY), i % MAX_HISTORY + 1).astype(np.int32)) for i in range(count)]


def histories_of(count: int = USERS) -> Histories:
    names, items = zip(*users(count), strict=True)
    return histories(list(names), list(items), TOKENS, MAX_HISTORY, causal=True)


@jax.jit
def losses(params, examples):
    return nnx.merge(graphdef(), params).losses(examples)


@functools.cache
def likelihoods(user: int, seed: int = 0) -> np.ndarray:
    """Returns the log-likelihood of every item, from the training loss."""
    name, history = users(user + 1)[user]
    rows = [
        [Segment(name, np.append(history, item).astype(np.int32), len(history), True)] for item in range(len(EVERY))
    ]
    examples = pack(rows, TOKENS, TOKENS.length(MAX_HISTORY), 1)
    return -np.asarray(losses(params(seed), examples).sum(axis=(1, 2)))


def in_order(user: int, items, seed: int = 0) -> list[int]:
    return sorted(items, key=lambda item: -likelihoods(user, seed)[item])


def live_index(mesh=None, sharded=False) -> LiveIndex:
    items = np.random.default_rng(2).permutation(len(EVERY))[:ITEMS]
    table = SortedTable.build(EVERY[items], SIZES, items)
    return LiveIndex(table, filters=USERS, mesh=mesh, sharded=sharded, boundary_budget=20)


@functools.cache
def retriever(beams: int, top: int) -> Retriever:
    return Retriever(graphdef(), live_index(), beams, top)


def assert_lists(found: RankedItems, user: int, expected: list[int], seed: int = 0) -> None:
    """Asserts that a list is the expected items, padded."""
    items = np.asarray(found.items)[user].tolist()
    assert items == (expected + [-1] * len(items))[: len(items)]
    scores = np.asarray(found.scores)[user][: len(expected)]
    np.testing.assert_allclose(scores, likelihoods(user, seed)[expected[: len(scores)]], rtol=1e-4, atol=1e-4)


def test_lists_equal_exhaustive_scoring_and_need_one_compilation():
    wide = Retriever(graphdef(), live_index(), 30, 30)
    for seed in range(4):
        random = np.random.default_rng(seed)
        if seed:
            items = random.permutation(len(EVERY))[: ITEMS - seed]
            wide.live.update(items, EVERY[items], remove_items=wide.live.table.items)
        restrictions = []
        for _ in range(USERS):
            allow, deny, exclude = (frozenset(random.permutation(len(EVERY))[:n].tolist()) for n in (40, 9, 10))
            wanted = [Filter(), Filter(allow=allow), Filter(deny=deny), Filter((), allow, deny)][random.integers(4)]
            restrictions.append(Restriction(wanted, [UNKNOWN, *list(exclude)[: random.integers(11)]]))
        found = wide(params(seed % 2), histories_of(), wide.live.constraints(restrictions))
        for user, restriction in enumerate(restrictions):
            mask = restriction.filter.mask(len(EVERY), None)
            eligible = [i for i in wide.live.table.items.tolist() if mask[i] and i not in restriction.exclude]
            assert_lists(found, user, in_order(user, eligible, seed % 2), seed % 2)
        assert (np.asarray(found.bound) == -np.inf).all()
    assert wide.compilations == 1 and wide.live.layouts == 1


DENIED = [Filter(deny=frozenset(range(user, 60, 9))) if user % 2 else Filter() for user in range(USERS)]
RESTRICTIONS = [Restriction(DENIED[user], [UNKNOWN, *range(user % 6, 60, 6)]) for user in range(USERS)]


def eligible(live: LiveIndex, user: int) -> list[int]:
    mask = RESTRICTIONS[user].filter.mask(len(EVERY), None)
    return [item for item in live.table.items.tolist() if mask[item] and item not in RESTRICTIONS[user].exclude]


@pytest.mark.parametrize("data, tensor", [(1, 1), (8, 1), (2, 4)])
def test_widening_search_certifies_its_lists(data, tensor):
    """On one device, with a replicated index on eight, and with one sharded over four."""
    mesh = sharding.make_mesh(config.Mesh(data=data, fsdp=1, tensor=tensor))
    narrow = Retriever(graphdef(), live_index(mesh, sharded=tensor > 1), 4, 3)
    placed, constraints = jax.device_put(params(), sharding.named(mesh)), narrow.live.constraints(RESTRICTIONS)
    first = narrow(placed, histories_of(), constraints).on_host()
    sure = first.certified(3)
    assert sure.any() and not sure.all()
    found = narrow.widening_search(placed, histories_of(), 30, 3, constraints)
    assert found.certified(3).all()
    for user in range(USERS):
        assert_lists(found, user, in_order(user, eligible(narrow.live, user))[:3])
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(before[sure], after[sure])


def test_widening_search_stops_at_max_beams():
    narrow = retriever(4, 3)
    constraints = narrow.live.constraints(RESTRICTIONS)
    first, at_6 = (narrow(params(), histories_of(), constraints, beams=width).on_host() for width in (4, 6))
    found = narrow.widening_search(params(), histories_of(), 6, 3, constraints)
    sure = first.certified(3)
    assert not at_6.certified(3).all()
    for before, wider, after in zip(*map(jax.tree.leaves, (first, at_6, found)), strict=True):
        np.testing.assert_array_equal(before[sure], after[sure])
        np.testing.assert_allclose(wider[~sure], after[~sure], rtol=1e-5)
    unwidened = narrow.widening_search(params(), histories_of(), 0, 3, constraints)
    np.testing.assert_array_equal(unwidened.bound, first.bound)
    compilations = narrow.compilations  # one per width, whichever rows need it
    assert not np.array_equal(narrow.widening_search(params(1), histories_of(), 6, 3, constraints).items, found.items)
    assert narrow.compilations == compilations


def groups_of(common: float) -> np.ndarray:
    """Returns groups of items: mostly 0, and rarely others."""
    random = np.random.default_rng(3)
    return np.where(random.random(len(EVERY)) < common, 0, random.integers(1, 5, len(EVERY))).astype(np.int32)


def diversity(most_items: int, groups: np.ndarray | None, most_beams: int = 30) -> Diversity:
    beams = np.full(USERS, most_beams, np.int32) if groups is None else None
    return Diversity(beams, np.full(USERS, most_items, np.int32), groups)


def limited(items: list[int], groups: np.ndarray, most: int) -> list[int]:
    counts, kept = collections.Counter(), []
    for item in items:
        counts[groups[item]] += 1
        if counts[groups[item]] <= most:
            kept.append(item)
    return kept


@pytest.mark.parametrize("drawn", [False, True])
def test_diverse_lists_are_full_if_the_catalogue_allows(drawn):
    narrow, by_seed = retriever(5, 5), np.arange(USERS, dtype=np.int32)
    sample = Sampling(np.full(USERS, 1, np.float32), None, by_seed) if drawn else None
    short = filled = 0
    for common, most in [(0.8, 1), (0.8, 2), (0.6, 3)]:
        groups, limits = groups_of(common), diversity(most, groups_of(common))
        narrow_once = narrow(params(), histories_of(), narrow.live.constraints(RESTRICTIONS), sample, limits)
        found = narrow.diverse_search(params(), histories_of(), RESTRICTIONS, limits, sample)
        for user in range(USERS):
            items = [item for item in found.items[user].tolist() if item >= 0]
            possible = limited(eligible(narrow.live, user), groups, most)
            assert len(items) == len(set(items)) == min(5, len(possible))
            assert set(items) <= set(eligible(narrow.live, user))
            assert max(collections.Counter(groups[items]).values()) <= most
            np.testing.assert_allclose(found.scores[user, : len(items)], likelihoods(user)[items], rtol=1e-4)
            assert drawn or items == in_order(user, items)
            assert (found.items[user, len(items) :] == -1).all() and found.bound[user] == np.inf
            short += len(items) < 5
            filled += len(items) > (np.asarray(narrow_once.items)[user] >= 0).sum()
    assert short and filled


def test_a_wide_diverse_search_gives_the_best_of_each_group():
    wide, groups = retriever(30, 5), groups_of(0.8)
    found = wide.diverse_search(params(), histories_of(), RESTRICTIONS, diversity(2, groups))
    for user in range(USERS):
        assert_lists(found, user, limited(in_order(user, eligible(wide.live, user)), groups, 2)[:5])


def test_batches_are_rounded_up_to_a_multiple_of_the_devices():
    eight = Retriever(graphdef(), live_index(sharding.make_mesh(config.Mesh(data=8, fsdp=1, tensor=1))), 4)
    assert [eight.round_up(rows) for rows in (1, 8, 9, 16)] == [8, 8, 16, 16]
    assert [retriever(4, 3).round_up(rows) for rows in (1, 8, 9)] == [1, 8, 9]
