"""Beam search against brute force and a beam search with lists, for any catalogue, constraints and layout."""

import collections
import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.filters import Filter
from genrec.decoding import catalogue_index
from genrec.decoding.beam_search import Diversity, RankedItems, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.decoding.index_arrays import Layout
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.sampling import Sampling
from genrec.decoding.sorted_table import SortedTable

BATCH = 4
SIZES = (6, 5, 4)
MOST = 30  # items
WIDE = 36  # beams, more than items
STATES = 5
UNKNOWN = 10**6
NEVER = -np.inf

Codes = tuple[int, ...]
many = functools.partial(settings, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ToyDecoder:
    """Decoder whose logits depend on the row and, through the cache only, on *all* codes so far."""

    logits: list[np.ndarray]  # of each level: float32[batch, STATES, codes]

    def step(self, codes, level, cache):
        start = jnp.zeros((self.logits[0].shape[0], 1), jnp.int32)
        state = _next_state(cache["state"], codes) if level else start
        rows = jnp.arange(len(state))[:, None]
        return jnp.asarray(self.logits[level])[rows, state], {"state": state}

    def finish(self, codes, level, cache):
        found = []
        for place in range(codes.shape[-1]):
            logits, cache = self.step(codes[..., place], level + place, cache)
            found.append(logits)
        return found

    def rows(self, rows) -> "ToyDecoder":
        return ToyDecoder([logits[rows] for logits in self.logits])

    @functools.cached_property
    def _normalizers(self) -> list[np.ndarray]:
        return [np.asarray(jax.nn.logsumexp(logits, axis=-1)) for logits in self.logits]

    def shares(self, row: int, prefix: Codes) -> tuple[np.ndarray, np.float32]:
        """Returns the logits of the next code and their normalizer, in float32."""
        state = functools.reduce(_next_state, prefix, 0)
        return self.logits[len(prefix)][row, state], self._normalizers[len(prefix)][row, state]

    def scores(self, row: int, prefix: Codes, score: np.float32) -> np.ndarray:
        """Returns the scores of the next codes, rounded as in the search, so that the same scores are equal."""
        logits, normalizer = self.shares(row, prefix)
        return np.minimum(score - normalizer + logits, score)

    def score(self, row: int, codes: Codes) -> np.float32:
        score = np.float32(0)
        for level, code in enumerate(codes):
            score = self.scores(row, codes[:level], score)[code]
        return score


def _next_state(state, code):
    return (3 * state + code + 1) % STATES


def decoder_of(seed: int, ties: bool, sizes: Codes = SIZES, batch: int = BATCH) -> ToyDecoder:
    """Returns a random decoder; with `ties`, its logits are multiples of 64, so that many scores are exactly equal."""
    random = np.random.default_rng(seed)
    shapes = [(batch, STATES, size) for size in sizes]
    made = [64 * random.integers(-1, 2, shape) if ties else random.normal(0, 2, shape) for shape in shapes]
    return ToyDecoder([logits.astype(np.float32) for logits in made])


# Boundary tables only; tables then windows; windows only. With or without room for items with equal codes.
BUDGETS = {"tables": 1000, "mixed": 10, "windows": 0}
# Runs only; a table, runs, and windows of rows. As wide as if prefixes had up to 64 children.
RUNS = {"runs": (0, (64, 64, 64), (True, True, True)), "all": (1, (64, 64), (True, False))}


@pytest.fixture(autouse=True)
def narrower(monkeypatch):
    """Lets searches of wide windows read 4 candidates where all beams have so few."""
    monkeypatch.setattr(catalogue_index, "NARROWER", catalogue_index.WIDE_WINDOW // 4)


@functools.cache
def live_index(kind: str, duplicates: bool) -> LiveIndex:
    """Returns an index whose layout has room for any catalogue of MOST items."""
    codes = np.array(list(itertools.product(*map(range, SIZES)))[:MOST], np.uint16)
    table = SortedTable.build(np.zeros_like(codes) if duplicates else codes, SIZES)
    layout = None
    if kind in RUNS:
        tables, windows, runs = RUNS[kind]
        layout = Layout(SIZES, tables, (*windows, MOST if duplicates else 1), runs, capacity=128)
    made = LiveIndex(table, filters=BATCH, boundary_budget=BUDGETS.get(kind), layout=layout)
    assert made.index.tables == {"tables": 3, "mixed": 1, "windows": 0, "runs": 0, "all": 1}[kind]
    assert (made.index.layout.windows[-1] == 1) == (not duplicates)
    return made


class Case(NamedTuple):
    """A catalogue, a decoder, and the restriction of each row."""

    items: dict[int, Codes]
    decoder: ToyDecoder
    restrictions: list[Restriction]

    def eligible(self, row: int) -> dict[int, Codes]:
        wanted, exclude = self.restrictions[row].filter, self.restrictions[row].exclude
        allow, deny = wanted.allow, wanted.deny
        allowed = set(self.items if allow is None else allow) - deny - set(exclude)
        return {item: codes for item, codes in self.items.items() if item in allowed}

    def put_into(self, live: LiveIndex) -> tuple[CatalogueIndex, tuple]:
        """Returns the index of this catalogue, and the constraints."""
        codes = np.array(list(self.items.values()), np.uint16)
        # All items are replaced, as some of the same items have other codes.
        live.update(np.array(list(self.items)), codes, remove_items=live.table.items)
        assert live.layouts == 1
        constraints = live.constraints(self.restrictions)
        return live.index, constraints


def make_case(seed: int, items: int, skew: float, duplicates: bool, ties: bool, constrained: str) -> Case:
    random = np.random.default_rng(seed)
    everything = np.array(list(itertools.product(*map(range, SIZES))))
    weight = np.exp(-skew * everything.sum(axis=1))
    chosen = everything[random.choice(len(everything), items, duplicates, p=weight / weight.sum())]
    numbers = random.choice(60, items, replace=False)
    catalogue = {int(item): tuple(codes) for item, codes in zip(numbers, chosen.tolist(), strict=True)}

    def some(most: int) -> list[int]:
        count = random.choice([0, 1, items // 2, items])
        return random.permutation(numbers)[: min(count, most)].tolist()

    restrictions = []
    for row in range(BATCH):
        wanted = Filter()
        if "allow" in constrained:
            wanted = dataclasses.replace(wanted, allow=frozenset([*some(items), UNKNOWN]))
        if "deny" in constrained:
            wanted = dataclasses.replace(wanted, deny=frozenset(some(items)))
        if "mixed" in constrained and row % 2:
            wanted = Filter()
        exclude = some(15) if "exclude" in constrained else []
        # An unknown item on every list, so that shapes are equal whether items are excluded or not.
        restrictions.append(Restriction(wanted, [*exclude, UNKNOWN]))
    return Case(catalogue, decoder_of(seed + 1, ties), restrictions)


CONSTRAINED = ["nothing", "allow", "deny", "exclude", "allow deny", "allow exclude", "allow deny exclude mixed"]


def cases(duplicates: bool):
    return st.builds(
        make_case,
        seed=seeds,
        items=st.sampled_from([1, 2, 5, 12, 20, 25, 28, MOST]),
        skew=st.sampled_from([0.0, 0.5, 1.5]),
        duplicates=st.booleans() if duplicates else st.just(False),
        ties=st.booleans(),
        constrained=st.sampled_from(CONSTRAINED),
    )


@functools.partial(jax.jit, static_argnames=("beams", "top"))
def search(decoder, index, constraints, beams, top=None, finisher=None, sampling=None, diversity=None):
    batch = decoder.logits[0].shape[0]
    finish = finisher and finisher.finish
    return beam_search(decoder.step, index, batch, beams, top, constraints, sampling, diversity, finish)


def in_order(case: Case, row: int) -> list[tuple[float, int]]:
    """Returns scores and items of all eligible items of the row, best first."""
    scored = [(case.decoder.score(row, codes), codes, item) for item, codes in case.eligible(row).items()]
    return [(score, item) for score, _, item in sorted(scored, key=lambda one: (-one[0], *one[1:]))]


def plain_search(case: Case, row: int, beams: int, most_alike: int = MOST) -> tuple[list[tuple[float, int]], float]:
    """Returns the result of a beam search with lists, and the best pruned score."""
    eligible, kept, left_behind = case.eligible(row), [((), np.float32(0))], NEVER
    for level in range(len(SIZES)):
        existing = {codes[: level + 1] for codes in eligible.values()}
        children = [
            ((*prefix, code), score)
            for prefix, parent in kept
            for code, score in enumerate(case.decoder.scores(row, prefix, parent))
            if (*prefix, code) in existing
        ]
        children.sort(key=lambda child: (-child[1], child[0]))
        alike = collections.Counter()
        for child in children.copy():
            alike[child[0][0]] += 1
            if level and alike[child[0][0]] > most_alike:
                children.remove(child)
        left_behind = max([left_behind, *(score for _, score in children[beams:])])
        kept = children[:beams]
    found = [(score, item) for codes, score in kept for item in sorted(eligible) if eligible[item] == codes]
    return found, left_behind


def assert_lists(found: RankedItems, row: int, expected: list[tuple[float, int]], top: int) -> None:
    """Asserts that a list is the first `top` expected items, padded."""
    missing = [(NEVER, -1)] * (top - len(expected))
    scores, items = zip(*(expected + missing)[:top], strict=True)
    assert found.items[row].tolist() == list(items)
    np.testing.assert_allclose(found.scores[row], scores, rtol=1e-5)


def numpy_of(found: RankedItems) -> RankedItems:
    return found.on_host()


@pytest.mark.parametrize(
    "kind, duplicates", [*itertools.product(BUDGETS, [False, True]), ("runs", True), ("all", False)]
)
def test_a_search_wider_than_the_catalogue_equals_brute_force(kind, duplicates):
    @many(max_examples=50)
    @given(cases(duplicates))
    def check(case):
        index, constraints = case.put_into(live_index(kind, duplicates))
        found = numpy_of(search(case.decoder, index, constraints, WIDE))
        for row in range(BATCH):
            assert_lists(found, row, in_order(case, row), WIDE)
            assert found.bound[row] == NEVER and all(found.certified(top)[row] for top in (1, 3, WIDE))

    check()


# (layout, room for duplicates, beams, top, finish)
NARROW = [
    ("tables", True, 4, 4, False),
    ("mixed", True, 4, 4, False),
    ("mixed", True, 1, 1, True),
    ("windows", True, 4, 4, True),
    ("windows", True, 17, 17, False),
    ("mixed", False, 4, 3, True),
    ("runs", True, 4, 4, True),
    ("all", True, 4, 4, False),
]


@pytest.mark.parametrize("kind, duplicates, beams, top, finish", NARROW)
def test_a_narrow_search_equals_a_beam_search_with_lists(kind, duplicates, beams, top, finish):
    """With and without `finish`. Certified lists equal brute force."""
    counts = collections.Counter()

    @many(max_examples=100)
    @given(cases(duplicates))
    def check(case):
        index, constraints = case.put_into(live_index(kind, duplicates))
        finisher = case.decoder if finish else None
        found = numpy_of(search(case.decoder, index, constraints, beams, top, finisher))
        for row in range(BATCH):
            expected, left_behind = plain_search(case, row, beams)
            assert_lists(found, row, expected, top)
            np.testing.assert_allclose(found.bound[row], left_behind, rtol=1e-5)
            for first in range(1, top + 1):
                certified = bool(found.certified(first)[row])
                counts[certified] += 1
                if certified:
                    exact = [*(score for score, _ in in_order(case, row)), *[NEVER] * top][:first]
                    np.testing.assert_allclose(found.scores[row, :first], exact, rtol=1e-5)

    check()
    assert counts[True] and counts[False]


@pytest.mark.parametrize("kind", ["mixed", "all"])
def test_finish_scores_the_last_levels_when_each_beam_is_one_item(kind):
    items = {5: (0, 1, 2), 2: (3, 4, 0), 7: (4, 4, 3)}
    restrictions = [Restriction(exclude=[UNKNOWN])] * BATCH
    case, other = (Case(items, decoder_of(seed, False), restrictions) for seed in (0, 1))
    index, constraints = case.put_into(live_index(kind, False))
    found = search(case.decoder, index, constraints, 4, 3, other.decoder)
    joined = ToyDecoder([case.decoder.logits[0], *other.decoder.logits[1:]])
    for row in range(BATCH):
        assert_lists(numpy_of(found), row, in_order(case._replace(decoder=joined), row), 3)


@pytest.mark.parametrize("sizes, items, budget", [((30,), 12, 0), ((2, 2, 2, 2, 2), 32, 8), ((3, 9, 2, 5), 100, 40)])
def test_any_number_of_levels_and_codes_without_constraints(sizes, items, budget):
    random, decoder = np.random.default_rng(0), decoder_of(0, False, sizes)
    everything = np.array(list(itertools.product(*map(range, sizes))), np.uint16)
    codes = random.permutation(everything)[:items]
    found = search(decoder, CatalogueIndex.build(codes, sizes, budget), None, items)
    for row in range(BATCH):
        exact = np.array([decoder.score(row, tuple(one)) for one in codes])
        assert found.items[row].tolist() == np.argsort(-exact).tolist()
        np.testing.assert_allclose(found.scores[row], np.sort(exact)[::-1], rtol=1e-5)


def test_of_equal_scores_the_first_in_the_table_wins():
    """All items are equally likely, and most are pruned."""
    case = make_case(0, MOST, 0.0, True, False, "nothing")
    case = case._replace(decoder=ToyDecoder([np.zeros_like(logits) for logits in case.decoder.logits]))
    for kind in ("tables", "mixed", "runs"):
        live = live_index(kind, True)
        index, constraints = case.put_into(live)
        found = search(case.decoder, index, constraints, 4, 4)
        assert found.items.tolist() == [live.table.items[:4].tolist()] * BATCH
        assert (np.diff(found.scores) == 0).all()


@pytest.mark.parametrize("kind, duplicates, beams, top, finish", [NARROW[1], NARROW[3], NARROW[5], NARROW[6]])
def test_the_list_of_a_row_does_not_depend_on_its_batch(kind, duplicates, beams, top, finish):
    @many(max_examples=20)
    @given(cases(duplicates), st.permutations(range(BATCH)), seeds)
    def check(case, order, seed):
        """Bit by bit, at other places and with other rows."""
        index, constraints = case.put_into(live_index(kind, duplicates))
        finisher = case.decoder if finish else None
        found = search(case.decoder, index, constraints, beams, top, finisher)

        def compare(rows, decoder, restrictions):
            constraints = live_index(kind, duplicates).constraints(restrictions)
            index = live_index(kind, duplicates).index
            others = search(decoder, index, constraints, beams, top, decoder if finish else None)
            for all_, some in zip(jax.tree.leaves(found), jax.tree.leaves(others), strict=True):
                np.testing.assert_array_equal(np.asarray(some)[rows[1]], np.asarray(all_)[rows[0]])

        order = np.array(order)
        compare((order, range(BATCH)), case.decoder.rows(order), [case.restrictions[row] for row in order])
        random = decoder_of(seed, False)
        random = ToyDecoder(
            [np.concatenate([a[:1], b[1:]]) for a, b in zip(case.decoder.logits, random.logits, strict=True)]
        )
        alone = [case.restrictions[0], *[Restriction(exclude=[UNKNOWN])] * (BATCH - 1)]
        compare(([0], [0]), random, alone)

    check()


def test_the_list_of_a_row_does_not_depend_on_the_batch_size():
    case = make_case(3, MOST, 0.5, True, False, "allow exclude")
    index, constraints = case.put_into(live_index("mixed", True))
    found = search(case.decoder, index, constraints, 4, 4)
    for row in range(BATCH):
        part = jax.tree.map(lambda x, row=row: x[row : row + 1], constraints)
        alone = search(case.decoder.rows([row]), index, part, 4, 4)
        np.testing.assert_array_equal(alone.items[0], found.items[row])
        np.testing.assert_allclose(alone.scores[0], found.scores[row], rtol=1e-6)


def limits(most_beams: int, most_items: list[int], groups: np.ndarray | None) -> Diversity:
    beams = np.full(BATCH, most_beams, np.int32) if groups is None else None
    return Diversity(beams, np.array(most_items, np.int32), groups)


def limited(ranked: list[tuple[float, int]], groups: dict[int, int], most: int) -> list[tuple[float, int]]:
    seen = collections.Counter()
    kept = []
    for score, item in ranked:
        seen[groups[item]] += 1
        if seen[groups[item]] <= most:
            kept.append((score, item))
    return kept


most_items = st.lists(st.integers(1, 4), min_size=BATCH, max_size=BATCH)


@pytest.mark.parametrize("by_group", [False, True])
def test_a_wide_search_gives_the_best_of_each_group(by_group):
    @many(max_examples=30)
    @given(cases(True), most_items, seeds)
    def check(case, most_items, seed):
        index, constraints = case.put_into(live_index("mixed", True))
        groups = np.random.default_rng(seed).integers(0, 4, 60).astype(np.int32) if by_group else None
        of_item = {item: int(groups[item]) if by_group else codes[0] for item, codes in case.items.items()}
        diversity = limits(WIDE, most_items, groups)
        found = numpy_of(search(case.decoder, index, constraints, WIDE, 8, diversity=diversity))
        for row in range(BATCH):
            assert_lists(found, row, limited(in_order(case, row), of_item, most_items[row]), 8)
            assert found.bound[row] == np.inf

    check()


@pytest.mark.parametrize("kind", ["windows", "runs"])
def test_a_narrow_search_keeps_few_beams_of_each_first_code(kind):
    @many(max_examples=60)
    @given(cases(True), st.integers(1, 4), most_items)
    def check(case, most_beams, most_items):
        index, constraints = case.put_into(live_index(kind, True))
        diversity = limits(most_beams, most_items, None)
        found = numpy_of(search(case.decoder, index, constraints, 5, diversity=diversity))
        of_item = {item: codes[0] for item, codes in case.items.items()}
        for row in range(BATCH):
            expected, _ = plain_search(case, row, 5, most_beams)
            assert_lists(found, row, limited(expected, of_item, most_items[row]), 5)

    check()


def shares_of(case: Case, row: int, prefix: Codes, temperature: float) -> dict[Codes, float]:
    """Returns the probabilities of the children of a prefix that lead to eligible items."""
    level = len(prefix)
    codes = sorted({one[level] for one in case.eligible(row).values() if one[:level] == prefix})
    logits = case.decoder.shares(row, prefix)[0].astype(np.float64)[codes] / temperature
    weights = np.exp(logits - logits.max())
    return {(*prefix, code): float(weight / weights.sum()) for code, weight in zip(codes, weights, strict=True)}


def nucleus(shares: dict[Codes, float], top_p: float) -> dict[Codes, float]:
    kept, so_far = {}, 0.0
    for child, share in sorted(shares.items(), key=lambda one: -one[1]):
        if so_far < top_p:
            kept[child] = share
        so_far += share
    return {child: share / sum(kept.values()) for child, share in kept.items()}


def distribution(case: Case, row: int, temperature: float, top_p: float) -> dict[Codes, float]:
    """Returns the sampling distribution over semantic IDs."""
    reached = {(): 1.0} if case.eligible(row) else {}
    for _ in SIZES:
        reached = {
            child: above * share
            for prefix, above in reached.items()
            for child, share in nucleus(shares_of(case, row, prefix, temperature), top_p).items()
        }
    return reached


@pytest.mark.parametrize("kind, with_top_p", [("mixed", False), ("mixed", True), ("all", True)])
def test_samples_are_different_eligible_items_of_the_nucleus_with_the_models_scores(kind, with_top_p):
    @many(max_examples=50)
    @given(cases(True), seeds, st.sampled_from([0.3, 1.0, 2.5]), st.sampled_from([0.21, 0.57, 0.93]))
    def check(case, seed, temperature, top_p):
        case = case._replace(decoder=decoder_of(seed, False))
        index, constraints = case.put_into(live_index(kind, True))
        row_seeds = np.random.default_rng(seed).integers(0, 2**31, BATCH).astype(np.int32)
        of_row = np.full(BATCH, temperature, np.float32), np.full(BATCH, top_p, np.float32) if with_top_p else None
        found = numpy_of(search(case.decoder, index, constraints, 4, 4, sampling=Sampling(*of_row, row_seeds)))
        for row in range(BATCH):
            items = [item for item in found.items[row].tolist() if item >= 0]
            eligible = case.eligible(row)
            possible = distribution(case, row, temperature, top_p if with_top_p else 1.0)
            reachable = sorted(item for item, codes in eligible.items() if codes in possible)
            assert len(set(items)) == len(items) == min(4, len(reachable)) and set(items) <= set(reachable)
            scores = [case.decoder.score(row, case.items[item]) for item in items]
            assert_lists(found, row, list(zip(scores, items, strict=True)), 4)
            assert found.bound[row] == np.inf
        # Draws depend on the seed only: the same rows at other places draw the same.
        order = np.roll(np.arange(BATCH), 1)
        part = jax.tree.map(lambda x: x[order], constraints)
        sample = Sampling(*of_row, row_seeds[order])
        again = numpy_of(search(case.decoder.rows(order), index, part, 4, 4, sampling=sample))
        np.testing.assert_array_equal(again.items, found.items[order])

    check()


def test_at_low_temperature_samples_deviate_least_from_the_most_likely_codes():
    case = make_case(0, MOST, 0.0, False, False, "allow exclude")
    index, constraints = case.put_into(live_index("mixed", True))
    sample = Sampling(np.full(BATCH, 1e-5, np.float32), None, np.arange(BATCH, dtype=np.int32))
    found = search(case.decoder, index, constraints, 4, 4, sampling=sample)
    for row in range(BATCH):
        lost = {
            item: sum(
                max(np.log(list(siblings.values()))) - np.log(siblings[codes[: level + 1]])
                for level in range(len(SIZES))
                for siblings in [shares_of(case, row, codes[:level], 1.0)]
            )
            for item, codes in case.eligible(row).items()
        }
        expected = [*sorted(lost, key=lost.get), *[-1] * 4][:4]
        assert found.items[row].tolist() == expected


def total_variation(drawn: list, probabilities: dict) -> float:
    counts = collections.Counter(drawn)
    assert set(counts) <= set(probabilities)
    return sum(abs(counts[one] / len(drawn) - probability) for one, probability in probabilities.items()) / 2


@pytest.mark.parametrize("sizes", [(6,), (3, 4)])
def test_draws_follow_the_models_probabilities_without_replacement(sizes):
    """The first draw, and the first two jointly, of many rows that differ only in their seeds."""
    rows, temperature = 20_000, 1.5
    everything = np.array(list(itertools.product(*map(range, sizes))), np.uint16)
    codes = np.random.default_rng(2).permutation(everything)[: len(everything) * 2 // 3]
    decoder = decoder_of(5, False, sizes, batch=1)
    index = CatalogueIndex.build(codes, sizes)
    sample = Sampling(np.full(rows, temperature, np.float32), None, np.arange(rows, dtype=np.int32))
    found = search(decoder.rows(np.zeros(rows, int)), index, None, 2, 2, sampling=sample)
    only = Case(dict(enumerate(map(tuple, codes.tolist()))), decoder, [Restriction()])
    by_item = dict.fromkeys(only.items, 1.0)
    for item, own in only.items.items():
        for level in range(len(sizes)):
            by_item[item] *= shares_of(only, 0, own[:level], temperature)[own[: level + 1]]
    first, second = np.asarray(found.items).T.tolist()
    assert total_variation(first, by_item) < 0.015
    pairs = {
        (one, other): by_item[one] * by_item[other] / (1 - by_item[one])
        for one, other in itertools.permutations(by_item, 2)
    }
    assert total_variation(list(zip(first, second, strict=True)), pairs) < 0.03


@pytest.mark.parametrize("beams, top", [(0, None), (3, 4), (3, 0)])
def test_top_must_be_between_1_and_beams(beams, top):
    index = CatalogueIndex.build(np.array([[0, 1]], np.uint16), (2, 2))
    with pytest.raises(ValueError, match="beams"):
        beam_search(decoder_of(0, False, (2, 2)).step, index, BATCH, beams, top)
