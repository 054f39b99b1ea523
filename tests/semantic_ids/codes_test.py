"""Properties of `SemanticIds` and of the last level, which separates collisions."""

import numpy as np
import pytest

from genrec import artifacts, files
from genrec.semantic_ids import codes as codes_lib
from genrec.semantic_ids.codes import SemanticIdError, SemanticIds, separate_collisions

SIZES = (4, 3, 2)


@pytest.fixture
def learned() -> np.ndarray:
    return np.random.default_rng(0).integers(0, SIZES, size=(200, len(SIZES)))


def test_separation_leaves_no_equal_ids_and_keeps_the_learned_codes(learned):
    ids = separate_collisions(learned, SIZES, max_group=200)
    assert len(np.unique(ids.codes, axis=0)) == ids.items == 200
    np.testing.assert_array_equal(ids.codes[:, :-1], learned)
    assert ids.sizes[-1] == np.unique(learned, axis=0, return_counts=True)[1].max()
    assert ids.sizes[:-1] == SIZES and ids.levels == 4 and ids.codes.dtype == np.uint16


def test_separation_numbers_items_in_catalogue_order(learned):
    numbers = separate_collisions(learned, SIZES, max_group=200).codes[:, -1]
    for group in np.unique(learned, axis=0):
        members = np.flatnonzero((learned == group).all(axis=1))
        np.testing.assert_array_equal(numbers[members], np.arange(len(members)))


def test_a_catalogue_without_collisions_gets_a_last_level_of_one_code():
    assert separate_collisions(np.array([[0, 1], [1, 0]]), (2, 2), max_group=8).sizes == (2, 2, 1)


def test_a_too_large_group_is_refused_with_advice():
    with pytest.raises(SemanticIdError, match=r"5 items.*\[1, 2\].*max_group.*semantic_ids.codes"):
        separate_collisions(np.full((5, 2), [1, 2]), (4, 4), max_group=4)


def test_tokens_of_levels_do_not_overlap(learned):
    ids = separate_collisions(learned, SIZES, max_group=200)
    tokens = ids.tokens()
    assert tokens.dtype == np.int32 and ids.offsets == (0, 4, 7, 9)
    assert tokens.min() >= 0 and tokens.max() < ids.vocabulary
    for level, (offset, size) in enumerate(zip(ids.offsets, ids.sizes, strict=True)):
        assert set(tokens[:, level]) <= set(range(offset, offset + size))


def test_prefixes_find_exactly_their_items(learned):
    ids = separate_collisions(learned, SIZES, max_group=200)
    np.testing.assert_array_equal(ids.items_with_prefix([]), np.arange(200))
    for item in range(0, 200, 17):
        for length in range(1, ids.levels + 1):
            prefix = ids.codes[item, :length]
            expected = np.flatnonzero((ids.codes[:, :length] == prefix).all(axis=1))
            np.testing.assert_array_equal(ids.items_with_prefix(prefix), expected)
        assert ids.items_with_prefix(ids.codes[item]).tolist() == [item]
    assert len(ids.items_with_prefix([3, 2, 1, ids.sizes[-1]])) == 0
    assert len(ids.items_with_prefix([-1])) == 0


def test_equal_codes_and_codes_beyond_their_level_are_refused():
    with pytest.raises(SemanticIdError, match="items 0 and 2"):
        SemanticIds(np.array([[1, 0], [0, 0], [1, 0]]), (2, 2))
    with pytest.raises(SemanticIdError, match="item 1 .*code 5 .*level 1"):
        SemanticIds(np.array([[1, 0], [0, 5]]), (2, 2))


def test_save_and_load(learned, tmp_path):
    ids = separate_collisions(learned, SIZES, max_group=200)
    ids.save(tmp_path)
    loaded = SemanticIds.load(tmp_path)
    np.testing.assert_array_equal(loaded.codes, ids.codes)
    assert loaded.sizes == ids.sizes and loaded.fingerprint == ids.fingerprint


def test_the_fingerprint_depends_on_codes_and_sizes():
    codes = np.array([[0, 1], [1, 0]])
    fingerprints = {SemanticIds(c, s).fingerprint for c, s in [(codes, (2, 2)), (codes, (2, 3)), (codes[::-1], (2, 2))]}
    assert len(fingerprints) == 3
    assert SemanticIds(codes.astype(np.int64), (2, 2)).fingerprint in fingerprints


def test_missing_and_damaged_files_are_named(learned, tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="learn_semantic_ids"):
        SemanticIds.load(tmp_path)
    separate_collisions(learned, SIZES, max_group=200).save(tmp_path)
    files.save_array(tmp_path / codes_lib.CODES_FILE, np.array([[0, 0, 0, 0]], np.uint16))
    with pytest.raises(artifacts.ArtifactError, match="layout.json"):
        SemanticIds.load(tmp_path)


def test_free_codes_are_those_that_no_item_has(learned):
    codes = separate_collisions(learned, SIZES, max_group=200).codes[learned[:, 0] < 3]
    codes = codes[::2]  # with gaps, and without the last group
    size, known = int(codes[:, -1].max()) + 2, {tuple(row) for row in codes.tolist()}
    free = codes_lib.FreeCodes(codes, (*SIZES, size))
    for group in np.unique(learned, axis=0).tolist():
        expected = [last for last in range(size) if (*group, last) not in known]
        assert [free.take(group, list)[0] for _ in expected] == [(*group, last) for last in expected]
        with pytest.raises(SemanticIdError, match="free"):
            free.take(group, list)
        free.release((*group, expected[0]))
        assert free.take(group, list) == ((*group, expected[0]), False)


@pytest.mark.parametrize("size", [3, 1 << 16])
def test_row_numbers_are_equal_for_equal_rows_alone(size):
    codes = np.random.default_rng(0).integers(size - 2, size, (40, 6)).astype(np.uint16)
    numbers = codes_lib.row_numbers(codes, (size,) * 6)
    equal = (codes[:, None] == codes[None]).all(axis=-1)
    np.testing.assert_array_equal(numbers[:, None] == numbers[None], equal)
    assert numbers.dtype == np.int64
