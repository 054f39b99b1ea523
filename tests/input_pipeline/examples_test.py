import subprocess
import sys

import jax
import numpy as np
import pytest

from genrec.input_pipeline.examples import Examples, Histories, Segment, Tokenizer, histories, pack, ranges

TOKENS = Tokenizer(items=np.array([[0, 4], [1, 5], [2, 4], [3, 6]], np.int32), first_user=7, user_tokens=5)


def segment(items, first_target, causal=True, user_id="u"):
    return Segment(user_id, np.array(items, np.int32), first_target, causal)


def test_pack_places_prefix_items_and_targets_of_a_segment():
    packed = pack([[segment([0, 1, 2], 0)]], TOKENS, row_tokens=7, row_targets=4)
    user = TOKENS.user("u")
    assert packed.histories.tokens.tolist() == [[user, 0, 4, 1, 5, 0, 0]]
    assert packed.histories.segments.tolist() == [[1, 1, 1, 1, 1, 0, 0]]
    assert packed.histories.positions.tolist() == [[0, 1, 1, 2, 2, 0, 0]]
    assert packed.targets.tolist() == [[[0, 4], [1, 5], [2, 4], [0, 0]]]
    assert packed.target_segments.tolist() == [[1, 1, 1, 0]]
    assert packed.target_positions.tolist() == [[0, 1, 2, 0]]


def one_by_one(rows, row_tokens, row_targets):
    """The expected result of `pack`, built segment by segment and item by item."""
    ids, segments, positions = np.zeros((3, len(rows), row_tokens), np.int32)
    targets = np.zeros((len(rows), row_targets, TOKENS.levels), np.int32)
    target_segments, target_positions = np.zeros((2, len(rows), row_targets), np.int32)
    for row, parts in enumerate(rows):
        encoded, predicted = [], []  # (token, segment, position), (tokens, segment, position)
        for number, part in enumerate(parts, start=1):
            encoded.append((TOKENS.user(part.user_id), number, 0))
            for place, item in enumerate(part.items):
                if place < len(part.items) - 1:
                    encoded += [(token, number, part.causal * (place + 1)) for token in TOKENS.items[item]]
                if place >= part.first_target:
                    predicted.append((TOKENS.items[item], number, part.causal * place))
        for at, (token, number, position) in enumerate(encoded):
            ids[row, at], segments[row, at], positions[row, at] = token, number, position
        for at, (tokens, number, position) in enumerate(predicted):
            targets[row, at], target_segments[row, at], target_positions[row, at] = tokens, number, position
    return Examples(Histories(ids, segments, positions), targets, target_segments, target_positions)


@pytest.mark.parametrize("seed", range(20))
def test_pack_equals_packing_one_by_one(seed):
    random = np.random.default_rng(seed)

    def any_segment():
        length, causal = int(random.integers(1, 7)), bool(random.integers(2))
        first_target = int(random.integers(length)) if causal else length - 1
        return segment(random.integers(0, 4, length), first_target, causal, f"u{random.integers(9)}")

    rows = [[any_segment() for _ in range(random.integers(0, 5))] for _ in range(random.integers(1, 6))]
    packed, expected = pack(rows, TOKENS, 60, 30), one_by_one(rows, 60, 30)
    for found, wanted in zip(jax.tree.leaves(packed), jax.tree.leaves(expected), strict=True):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, wanted)


def test_ranges():
    assert ranges(np.array([5, 3, 0]), np.array([2, 0, 3])).tolist() == [5, 6, 0, 1, 2]
    assert ranges(0, np.array([], np.int64)).tolist() == []


def test_a_bidirectional_segment_has_one_target_and_no_order():
    packed = pack([[segment([0, 1, 2], 2, causal=False), segment([3, 1], 1, causal=False)]], TOKENS, 8, 2)
    assert not packed.histories.positions.any() and not packed.target_positions.any()
    assert packed.histories.segments.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2]]
    assert packed.targets.tolist() == [[[2, 4], [1, 5]]]
    with pytest.raises(ValueError, match="bidirectional"):
        pack([[segment([0, 1, 2], 1, causal=False)]], TOKENS, 8, 2)


def test_a_row_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="row 1: 5 tokens"):
        pack([[segment([0], 0)], [segment([0, 1, 2], 0)]], TOKENS, row_tokens=4, row_targets=4)


def test_histories_keep_the_latest_items():
    made = histories(["u", "v"], [np.array([0, 1, 2]), np.array([], np.int32)], TOKENS, max_history=2)
    assert made.tokens[0].tolist() == [TOKENS.user("u"), 1, 5, 2, 4]
    assert made.positions[0].tolist() == [0, 1, 1, 2, 2]
    assert made.segments.tolist() == [[1] * 5, [1, 0, 0, 0, 0]]
    assert not histories(["u"], [np.array([0, 1])], TOKENS, max_history=2, causal=False).positions.any()


def test_user_tokens_are_the_same_in_every_process():
    code = (
        "import numpy as np; from genrec.input_pipeline.examples import Tokenizer;"
        "print([Tokenizer(np.zeros((1, 2), np.int32), 10, 1000).user(u) for u in ('a', 'b', '007')])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert all(10 <= token < 1010 for token in eval(outputs.pop()))
