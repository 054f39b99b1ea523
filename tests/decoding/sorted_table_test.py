"""Sorted table against plain lists: build, updates, look-up of rows, and files beside checkpoints."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding import sorted_table
from genrec.decoding.sorted_table import CatalogueError, SortedTable
from genrec.semantic_ids.codes import SemanticIds

SIZES = (3, 300, 2)  # one level of more than a byte; small levels make common prefixes and duplicates
CODES = np.array([[2, 299, 0], [0, 7, 1], [0, 7, 1], [0, 256, 0], [0, 1, 1]], np.uint16)
UNIQUE = np.unique(CODES, axis=0)


numbers = st.one_of(st.integers(0, 25), st.sampled_from([255, 256, 65_536, 70_000]))


@st.composite
def entries(draw, min_size=0, items=numbers):
    """Draws a dict from items to codes with many duplicates."""
    codes = st.tuples(*(st.sampled_from(sorted({0, 1, size // 2, size - 1})) for size in SIZES))
    return draw(st.dictionaries(items, codes, min_size=min_size, max_size=12))


def of(catalogue: dict[int, tuple[int, ...]]) -> SortedTable:
    return SortedTable.build(codes_of(catalogue), SIZES, np.array(list(catalogue), np.int64))


def codes_of(catalogue: dict[int, tuple[int, ...]]) -> np.ndarray:
    return np.array(list(catalogue.values()), np.uint16).reshape(-1, len(SIZES))


def assert_equal(table: SortedTable, other: SortedTable) -> None:
    np.testing.assert_array_equal(table.codes, other.codes)
    np.testing.assert_array_equal(table.items, other.items)
    np.testing.assert_array_equal(table.shared, other.shared)
    assert (table.codes.dtype, table.items.dtype) == (other.codes.dtype, other.items.dtype) == (np.uint16, np.int32)
    assert table.sizes == other.sizes


many = settings(deadline=None, derandomize=True, max_examples=200)


@many
@given(entries(min_size=1))
def test_rows_are_in_the_order_of_codes_then_items(catalogue):
    table = of(catalogue)
    expected = sorted((codes, item) for item, codes in catalogue.items())
    assert [(tuple(codes), item) for codes, item in zip(table.codes.tolist(), table.items, strict=True)] == expected
    assert len(table) == len(catalogue) and table.levels == len(SIZES) and table.sizes == SIZES


def test_items_are_numbered_by_their_place_by_default():
    assert SortedTable.build(CODES, SIZES).items.tolist() == [4, 1, 2, 3, 0]
    assert SortedTable.build(CODES, SIZES, np.array([5, 40, 30, 0, 9])).items.tolist() == [9, 30, 40, 0, 5]


@many
@given(entries(min_size=1))
def test_what_rows_share_the_longest_ranges_and_most_children_equal_brute_force(catalogue):
    table = of(catalogue)
    rows = [tuple(codes) for codes in table.codes.tolist()]
    for row in range(len(rows)):
        before = rows[row - 1] if row else None
        shared = [level for level in range(len(SIZES) + 1) if before and rows[row][:level] == before[:level]]
        assert table.shared[row] == max(shared, default=0)
    for level in range(len(SIZES) + 1):
        prefixes = [codes[:level] for codes in rows]
        assert table.longest_range(level) == max(map(prefixes.count, prefixes))
        if level < len(SIZES):
            parents = [codes[:level] for codes in {codes[: level + 1] for codes in rows}]
            assert table.most_children(level) == max(map(parents.count, parents))


@many
@given(entries(min_size=1), st.lists(st.integers(-3, 40)))
def test_rows_are_looked_up_by_item(catalogue, wanted):
    table = of(catalogue)
    items = table.items.tolist()
    rows = table.rows_of(np.array(wanted, np.int64))
    assert rows.tolist() == [items.index(item) if item in items else -1 for item in wanted]


@many
@given(st.data(), entries(min_size=1))
def test_a_changed_table_equals_one_built_of_the_changed_catalogue(data, catalogue):
    removed = data.draw(st.lists(st.sampled_from(sorted(catalogue)), unique=True))
    # New items, and replacements of removed ones.
    there = set(catalogue) - set(removed)
    added = data.draw(entries(items=numbers.filter(lambda item: item not in there)))
    expected = {item: codes for item, codes in catalogue.items() if item not in removed} | added
    table = of(catalogue)
    before = table.codes.copy(), table.items.copy()
    change = np.array(list(added), np.int64), codes_of(added), np.array(removed, np.int64)
    if not expected:
        with pytest.raises(CatalogueError, match="empty"):
            table.changed(*change)
    else:
        assert_equal(table.changed(*change), of(expected))
    np.testing.assert_array_equal(table.codes, before[0])
    np.testing.assert_array_equal(table.items, before[1])


@pytest.mark.parametrize(
    "codes, sizes, items, message",
    [
        (CODES, (3, 300), None, "2 sizes"),
        (CODES[:, 0], SIZES, None, "shape .5,."),
        (CODES, (3, 299, 2), None, "level 1 .*299"),
        (CODES[:0], SIZES, None, "empty"),
        (CODES.astype(np.int32), SIZES, None, "int32.*uint16"),
        (CODES, SIZES, np.arange(4), "5 rows.*int64.4."),
        (CODES, SIZES, np.arange(5.0), "float64"),
        (CODES, SIZES, np.array([3, 1, 3, 0, 5]), "item 3 .*2"),
        (CODES, SIZES, np.array([3, 1, -2, 0, 5]), "-2 to 5"),
        (CODES, SIZES, np.array([3, 1, 2**31 - 1, 0, 5]), "0 to 2147483647"),
        (np.zeros((2, 255), np.uint16), (1,) * 255, None, "255 sizes"),
    ],
)
def test_invalid_codes_and_items_are_refused(codes, sizes, items, message):
    with pytest.raises(CatalogueError, match=message):
        SortedTable.build(codes, sizes, items)


@pytest.mark.parametrize(
    "add, codes, remove, message",
    [
        ([9], CODES[:1], [5], "item 5"),
        ([9], CODES[:1], [-1], "item -1"),
        ([9, 2], CODES[:2], [], "item 2"),
        ([9, 9], CODES[:2], [], "item 9 .*2"),
        ([9], CODES[:2], [], "2 rows"),
        ([9], CODES[:1, :2], [], "3 sizes"),
        ([9], np.array([[3, 0, 0]], np.uint16), [], "level 0 .*3"),
        ([], CODES[:0], [0, 1, 2, 3, 4], "empty"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(add, codes, remove, message):
    table = SortedTable.build(CODES, SIZES)
    with pytest.raises(CatalogueError, match=message):
        table.changed(np.array(add, np.int64), codes, np.array(remove, np.int64))
    assert_equal(table, SortedTable.build(CODES, SIZES))


def test_a_saved_table_is_loaded_without_sorting(tmp_path, monkeypatch):
    ids = SemanticIds(UNIQUE, SIZES)
    sorted_table.save(tmp_path, ids)
    expected = SortedTable.build(UNIQUE, SIZES)
    monkeypatch.setattr(SortedTable, "build", None)
    assert_equal(sorted_table.load(tmp_path, ids), expected)
    sorted_table.save(tmp_path, ids)  # up to date: nothing to build


def test_without_a_saved_table_one_is_built(tmp_path):
    assert_equal(sorted_table.load(tmp_path, SemanticIds(UNIQUE, SIZES)), SortedTable.build(UNIQUE, SIZES))


def test_a_table_of_other_semantic_ids_is_not_loaded(tmp_path):
    sorted_table.save(tmp_path, SemanticIds(UNIQUE, SIZES))
    others = SemanticIds(UNIQUE[::-1].copy(), SIZES)
    expected = SortedTable.build(others.codes, SIZES)
    assert_equal(sorted_table.load(tmp_path, others), expected)
    sorted_table.save(tmp_path, others)
    assert_equal(sorted_table.load(tmp_path, others), expected)
