"""Live index: constraints of each row against plain Python, slots of filters, and updates of the catalogue."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.data.filters import Condition, Filter
from genrec.decoding import index_arrays
from genrec.decoding.beam_search import beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.decoding.index_arrays import Layout
from genrec.decoding.live_index import MAX_EXCLUDED, MIN_EXCLUDED, LiveIndex, Restriction
from genrec.decoding.sorted_table import CatalogueError, SortedTable

SIZES = (4, 3, 5)
ITEMS = 24
BATCH = 3
BEAMS = 30  # more than there are different codes in any catalogue below
RUNS = Layout(SIZES, 1, (3, 5, 48), (True, True), capacity=256)
BUDGETS = [1000, 5, 0, RUNS]  # boundary tables only; tables then windows; windows only; a table, then runs
UNKNOWN = 10**6

many = functools.partial(settings, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
LOGITS = [np.random.default_rng(level).normal(0, 2, size).astype(np.float32) for level, size in enumerate(SIZES)]


def random_codes(items: int, seed: int = 0) -> np.ndarray:
    """Returns codes with many duplicates."""
    return np.random.default_rng(seed).integers(0, (4, 2, 2), (items, 3)).astype(np.uint16)


def unlike_codes(items: int) -> np.ndarray:
    everything = np.array(list(itertools.product(*map(range, SIZES))), np.uint16)
    return np.random.default_rng(0).permutation(everything)[:items]


def live_index(codes: np.ndarray | None = None, budget: int | Layout = 5, **options) -> LiveIndex:
    table = SortedTable.build(random_codes(ITEMS) if codes is None else codes, SIZES)
    name = "layout" if isinstance(budget, Layout) else "boundary_budget"
    return LiveIndex(table, **{name: budget}, **options)


@jax.jit
def search(index, constraints):
    """Searches with the same decoder, without a history, for every row."""

    def step(codes, level, _):
        beams = 1 if codes is None else codes.shape[1]
        return jnp.broadcast_to(jnp.asarray(LOGITS[level]), (BATCH, beams, SIZES[level])), None

    return beam_search(step, index, BATCH, BEAMS, constraints=constraints).items


def found(live: LiveIndex, *restrictions: Restriction) -> list[list[int]]:
    """Returns the items of each row, best first; rows beyond the restrictions have none."""
    restrictions = [*restrictions, *[Restriction()] * (BATCH - len(restrictions))]
    constraints = live.constraints(restrictions)
    lists = np.asarray(search(live.index, constraints)).tolist()
    return [[item for item in row if item >= 0] for row in lists]


def everything(live: LiveIndex) -> list[int]:
    """Returns all items, best first."""
    table = live.table
    score = sum(logits[table.codes[:, level]] for level, logits in enumerate(LOGITS))
    return table.items[np.argsort(-score, kind="stable")].tolist()


def without(items: list[int], *gone: int) -> list[int]:
    return [item for item in items if item not in gone]


def assert_empty_from(live: LiveIndex, constraints, restrictions: list[Restriction]) -> None:
    """Asserts that excluded rows and `empty_from` equal their definitions."""
    table = live.table
    rows = [(tuple(codes), int(item)) for codes, item in zip(table.codes.tolist(), table.items, strict=True)]
    for row, restriction in enumerate(restrictions):
        mask = restriction.filter.mask(100, None)
        expected = []
        for place, (codes, item) in enumerate(rows):
            if mask[item] and item in restriction.exclude:
                left = [codes for codes, item in rows if mask[item] and item not in restriction.exclude]
                shared = [max(level for level in range(4) if codes[:level] == other[:level]) for other in left]
                expected.append((place, max(shared, default=0)))
        real = constraints.excluded[row] < len(table)
        assert list(zip(constraints.excluded[row][real], constraints.empty_from[row][real], strict=True)) == expected
        assert (constraints.empty_from[row][~real] == len(SIZES)).all()
        codes = table.codes[[place for place, _ in expected], : live.index.tables]
        np.testing.assert_array_equal(constraints.codes[row][real], codes)


@functools.cache
def kept(budget: int | Layout) -> LiveIndex:
    """Returns an index that examples share."""
    return live_index(budget=budget, filters=BATCH)


def some_restrictions(seed: int) -> list[Restriction]:
    random = np.random.default_rng(seed)

    def some() -> list[int]:
        return random.permutation(ITEMS)[: random.choice([0, 1, 5, ITEMS])].tolist()

    filters = [Filter(), Filter(allow=frozenset(some())), Filter(deny=frozenset(some()))]
    return [
        Restriction(filters[random.integers(3)], [*some()[:14], UNKNOWN, *some()[:1]])  # an item may be on a list twice
        for _ in range(BATCH)
    ]


@pytest.mark.parametrize("budget", BUDGETS)
def test_each_row_has_its_own_filter_and_list(budget):
    @many(max_examples=40)
    @given(seeds)
    def check(seed):
        live, restrictions = kept(budget), some_restrictions(seed)
        assert_empty_from(live, live.constraints(restrictions), restrictions)
        for row, items in enumerate(found(live, *restrictions)):
            mask = restrictions[row].filter.mask(ITEMS, None)
            assert items == [i for i in everything(live) if mask[i] and i not in restrictions[row].exclude]

    check()


def test_lists_of_neighboring_rows_of_the_table_are_kept_apart():
    """Prefixes at the border of two lists are empty only if one list excludes all of their items."""
    live = live_index()
    for cut in range(1, ITEMS):
        parts = live.table.items[max(0, cut - 6) : cut], live.table.items[cut : cut + 6]
        restrictions = [Restriction(exclude=part) for part in parts]
        assert_empty_from(live, live.constraints(restrictions), restrictions)


def test_unknown_excluded_items_are_ignored():
    live = live_index()
    best = everything(live)
    lists = found(live, Restriction(exclude=[-1, ITEMS, UNKNOWN, 2**40]), Restriction(exclude=np.array([best[0]])))
    assert lists == [best, best[1:], best]


@pytest.mark.parametrize(
    "length, width", [(0, 0), (1, MIN_EXCLUDED), (17, 32), (MAX_EXCLUDED, MAX_EXCLUDED), (MAX_EXCLUDED + 1, 0)]
)
def test_lists_are_padded_to_few_lengths(length, width):
    exclude = list(range(100, 100 + length))
    assert live_index().constraints([Restriction(), Restriction(exclude=exclude)]).excluded.shape == (2, width)


@pytest.mark.parametrize("wanted", [Filter(), Filter(deny=frozenset([2])), Filter(allow=frozenset([2, 4, 5, 6]))])
def test_long_lists_have_the_effect_of_short_ones(wanted):
    short = [4, 6, 9]
    long = [*short, *range(UNKNOWN, UNKNOWN + MAX_EXCLUDED)]
    for filters in (2, 1):  # with room for the filter of a long list, and without
        live = live_index(filters=filters)
        one, other, _ = found(live, Restriction(wanted, short), Restriction(wanted, long))
        assert one == other and not set(one) & set(short)


def test_an_index_without_filters_excludes_lists_of_any_length():
    live = live_index(filters=0)
    long = [2, *range(UNKNOWN, UNKNOWN + MAX_EXCLUDED)]
    assert found(live, Restriction(exclude=long), Restriction(exclude=long)) == [
        *[without(everything(live), 2)] * 2,
        everything(live),
    ]


@pytest.fixture
def made(monkeypatch) -> list[Filter]:
    """Records the filters whose masks are computed."""
    made, mask = [], Filter.mask
    monkeypatch.setattr(Filter, "mask", lambda self, *args: made.append(self) or mask(self, *args))
    return made


A, B, C, D = (Filter(deny=frozenset([item])) for item in range(4))


def test_equal_filters_share_a_slot_and_the_least_recently_used_is_evicted(made):
    live = live_index(filters=3)
    best = everything(live)
    same = Filter(deny=frozenset([0]))
    assert found(live, Restriction(A), Restriction(same), Restriction(B)) == [
        without(best, 0),
        without(best, 0),
        without(best, 1),
    ]
    assert made == [A, B]
    found(live, Restriction(C), Restriction(A))
    assert made == [A, B, C]
    assert found(live, Restriction(D), Restriction(C)) == [without(best, 3), without(best, 2), best]  # evicts B
    assert found(live, Restriction(A), Restriction(C), Restriction(D)) == [without(best, item) for item in (0, 2, 3)]
    assert made == [A, B, C, D]
    assert found(live, Restriction(B)) == [without(best, 1), best, best]
    assert made == [A, B, C, D, B]


def test_a_filter_of_a_batch_is_not_evicted_by_another_of_it(made):
    live = live_index(filters=2)
    found(live, Restriction(A), Restriction(B))
    assert found(live, Restriction(C), Restriction(A))[:2] == [without(everything(live), item) for item in (2, 0)]


def test_more_filters_than_are_kept_are_refused():
    live = live_index(filters=2)
    with pytest.raises(CatalogueError, match="3 .*2"):
        live.constraints([Restriction(one) for one in (A, B, C, A)])
    assert found(live, Restriction(A), Restriction(B))[2] == everything(live)


def test_filters_have_conditions_on_columns_of_the_catalogue():
    music = Filter((Condition("kind", "=", ("music",)),))
    with pytest.raises(DataError, match="catalogue"):
        live_index().constraints([Restriction(music)])
    kinds = ["music" if item % 3 else "film" for item in range(ITEMS)]
    live = live_index(catalogue=Catalogue(pa.table({"kind": kinds}), ()))
    assert found(live, Restriction(music))[0] == [item for item in everything(live) if item % 3]
    with pytest.raises(DataError, match="'color'"):
        live.constraints([Restriction(Filter((Condition("color", "=", ("red",)),)))])
    # An item without a row fulfils no condition until the catalogue is replaced.
    live.update([ITEMS], random_codes(1))
    assert ITEMS not in found(live, Restriction(music))[0]
    live.update(catalogue=Catalogue(pa.table({"kind": ["film", *kinds[1:], "music"]}), ()))
    assert ITEMS in found(live, Restriction(music))[0]


@pytest.mark.parametrize("budget", BUDGETS)
def test_an_updated_index_equals_one_that_is_built_from_scratch(budget):
    live = live_index(np.zeros((ITEMS, 3), np.uint16), budget, filters=1)  # room for anything
    layout = live.index.layout

    def change(items: dict[int, tuple[int, ...]], new: list[int], gone: list[int], seed: int) -> None:
        live.constraints([Restriction(A)])  # removed by the update
        codes = random_codes(len(new), seed)
        live.update(new, codes, gone)
        for item in gone:
            items.pop(item, None)
        items.update(zip(new, map(tuple, codes.tolist()), strict=True))
        table = SortedTable.build(np.array(list(items.values()), np.uint16), SIZES, np.array(list(items)))
        everything = index_arrays.filter_arrays(table, layout)
        expected = CatalogueIndex.of(index_arrays.index_arrays(table, layout, [everything, everything]))
        assert jax.tree.structure(live.index) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(live.index), jax.tree.leaves(expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)

    @many(max_examples=30)
    @given(seeds)
    def check(seed):
        random, items = np.random.default_rng(seed), {}
        change(items, random.permutation(40)[: random.integers(1, ITEMS)].tolist(), live.table.items.tolist(), seed)
        gone = random.permutation(list(items))[: random.integers(0, len(items))].tolist()
        free = [item for item in range(40) if item not in items or item in gone]
        change(items, random.permutation(free)[: random.integers(0, ITEMS - len(items))].tolist(), gone, seed + 1)

    check()
    assert live.layouts == 1


def test_updates_apply_from_the_next_search():
    live = live_index()
    best = everything(live)[0]
    live.update(remove_items=[best])
    assert found(live) == [everything(live)] * BATCH and best not in everything(live)
    live.update([best, 77], random_codes(2, seed=1))
    assert found(live) == [everything(live)] * BATCH and {best, 77} <= set(everything(live))
    # One call replaces an item's codes.
    live.update([77], live.table.codes[:1], remove_items=[77])
    assert found(live) == [everything(live)] * BATCH


def test_an_invalid_update_changes_nothing():
    live = live_index()
    index, table = live.index, live.table
    for change in [{"remove_items": [UNKNOWN]}, {"add_items": [3], "add_codes": random_codes(1)}]:
        with pytest.raises(CatalogueError):
            live.update(**change)
    assert live.index is index and live.table is table


@pytest.mark.parametrize("budget", [5, RUNS])
def test_updates_filters_and_lists_need_no_compilation(budget, caplog):
    live = live_index(budget=budget, filters=2)
    search.clear_cache()
    with jax.log_compiles():
        found(live, Restriction(A, [1]), Restriction(B))
        assert "Compiling" in caplog.text
        caplog.clear()
        for item in range(3, 9):
            live.update([item + 100], random_codes(1, item), remove_items=[item])
            denied = Filter(deny=frozenset([item + 1]))
            lists = found(live, Restriction(denied, range(item, item + 9)), Restriction(exclude=[item + 2]))
            assert lists == [
                without(everything(live), *range(item, item + 9)),
                without(everything(live), item + 2),
                everything(live),
            ]
    assert live.layouts == 1
    assert "Compiling" not in caplog.text


@pytest.mark.parametrize(
    "codes, added",
    [
        (random_codes(ITEMS), random_codes(300)),  # more rows
        (random_codes(ITEMS), np.zeros((ITEMS, 3), np.uint16)),  # a wider range
        (unlike_codes(ITEMS), unlike_codes(1)),  # the first duplicate
        (np.zeros((40, 3), np.uint16), unlike_codes(40)),  # more children
    ],
)
def test_a_catalogue_that_outgrows_its_layout_gets_another(codes, added, caplog):
    live = live_index(codes, budget=0)
    live.update()
    assert live.layouts == 1
    live.update(np.arange(len(added)) + 100, added)
    assert live.layouts == 2 and "outgrown" in caplog.text
    assert live.index.layout.holds(live.table)
    live.update(remove_items=[100])
    assert live.layouts == 2
    lists = np.asarray(search(live.index, live.constraints([Restriction()] * BATCH)))
    assert lists[:, : len(live.table)].tolist() == [everything(live)[: lists.shape[1]]] * BATCH


@pytest.mark.parametrize("budget", BUDGETS)
def test_results_from_before_an_update_stay_valid(budget):
    live = kept(budget)
    restrictions = [Restriction(A, [5]), Restriction(B), Restriction()]
    constraints = live.constraints(restrictions)
    index = live.index
    before = np.asarray(search(index, constraints))
    best = everything(live)[0]
    codes = live.table.codes[live.table.rows_of([best])]
    live.update([UNKNOWN], np.array([[3, 2, 4]], np.uint16), remove_items=[best])
    live.constraints([Restriction(C), Restriction(D)])
    np.testing.assert_array_equal(search(index, constraints), before)
    live.update([best], codes, remove_items=[UNKNOWN])
