import subprocess
import sys

import numpy as np
import pytest

from genrec.data.examples import Segment, Tokens, histories, pack

TOKENS = Tokens(items=np.array([[0, 4], [1, 5], [2, 4], [3, 6]], np.int32), first_user=7, users=5)


def segment(items, first_target, causal=True, user_id="u"):
    return Segment(user_id, np.array(items, np.int32), first_target, causal)


def test_pack_lays_out_a_segment_as_documented():
    packed = pack([[segment([0, 1, 2], 0)]], TOKENS, row_tokens=7, row_targets=4)
    user = TOKENS.user("u")
    assert packed.histories.tokens.tolist() == [[user, 0, 4, 1, 5, 0, 0]]
    assert packed.histories.segments.tolist() == [[1, 1, 1, 1, 1, 0, 0]]
    assert packed.histories.positions.tolist() == [[0, 1, 1, 2, 2, 0, 0]]
    assert packed.targets.tolist() == [[[0, 4], [1, 5], [2, 4], [0, 0]]]
    assert packed.target_segments.tolist() == [[1, 1, 1, 0]]
    assert packed.target_positions.tolist() == [[0, 1, 2, 0]]


def test_a_bidirectional_segment_has_one_target_and_no_order():
    packed = pack([[segment([0, 1, 2], 2, causal=False), segment([3, 1], 1, causal=False)]], TOKENS, 8, 2)
    assert not packed.histories.positions.any() and not packed.target_positions.any()
    assert packed.histories.segments.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2]]
    assert packed.targets.tolist() == [[[2, 4], [1, 5]]]
    with pytest.raises(ValueError, match="only target"):
        pack([[segment([0, 1, 2], 1, causal=False)]], TOKENS, 8, 2)


def test_a_row_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="row 1: 5 tokens and 3 targets exceed"):
        pack([[segment([0], 0)], [segment([0, 1, 2], 0)]], TOKENS, row_tokens=4, row_targets=4)


def test_histories_keep_the_latest_items():
    made = histories(["u", "v"], [np.array([0, 1, 2]), np.array([], np.int32)], TOKENS, max_history=2)
    assert made.tokens[0].tolist() == [TOKENS.user("u"), 1, 5, 2, 4]
    assert made.positions[0].tolist() == [0, 1, 1, 2, 2]
    assert made.segments.tolist() == [[1] * 5, [1, 0, 0, 0, 0]]
    assert not histories(["u"], [np.array([0, 1])], TOKENS, max_history=2, causal=False).positions.any()


def test_user_tokens_are_the_same_in_every_process():
    code = (
        "import numpy as np; from genrec.data.examples import Tokens;"
        "print([Tokens(np.zeros((1, 2), np.int32), 10, 1000).user(u) for u in ('a', 'b', '007')])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert all(10 <= token < 1010 for token in eval(outputs.pop()))
