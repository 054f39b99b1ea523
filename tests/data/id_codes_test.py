"""Ids get the codes that a dictionary gives them, also where hashes collide."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data import id_codes
from genrec.data.id_codes import IdCodes

TEXTS = st.text("aü\0", max_size=3) | st.integers(0, 20).map("{:036d}".format)


@pytest.mark.parametrize("different_hashes", [1, 3, 2**64])
@given(blocks=st.lists(st.lists(TEXTS, max_size=12), max_size=6))
@settings(deadline=None, max_examples=60)
def test_codes_are_those_of_a_dictionary(different_hashes, blocks):
    codes, known, hashes_of = IdCodes(), {}, id_codes.hashes_of
    with pytest.MonkeyPatch.context() as patch:
        if different_hashes < 2**64:
            patch.setattr(id_codes, "hashes_of", lambda texts: hashes_of(texts) % np.uint64(different_hashes))
        for block in blocks:
            column = pa.array(block, pa.string()).dictionary_encode()
            assert codes.find(column.dictionary).tolist() == [known.get(text, -1) for text in dict.fromkeys(block)]
            assert codes.add(column).tolist() == [known.setdefault(text, len(known)) for text in block]
        assert codes.texts.to_pylist() == list(known) and len(codes) == len(known)


@given(st.lists(TEXTS, min_size=1, max_size=20, unique=True), st.integers(0, 19))
@settings(deadline=None, max_examples=100)
def test_a_hash_depends_on_the_text_alone(texts, first):
    column = pa.array(texts, pa.large_string())
    hashes = id_codes.hashes_of(column)
    assert len(np.unique(hashes)) == len(texts)
    np.testing.assert_array_equal(id_codes.hashes_of(column[first:]), hashes[first:])
    alone = [id_codes.hashes_of(pa.array([text], pa.large_string()))[0] for text in texts]
    np.testing.assert_array_equal(alone, hashes)


def test_a_column_of_different_ids_has_its_rows_as_codes():
    column = pa.chunked_array([["b", "a"], ["c"]])
    assert IdCodes.of(column).find(pa.array(["c", "d", "b"])).tolist() == [2, -1, 0]
    assert IdCodes.of(pa.chunked_array([["b", None], ["b", "c"]])).find(pa.array(["b", "c"])).tolist() == [0, 2]
