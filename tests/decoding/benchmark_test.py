"""The decoding benchmarks, at the smallest sizes."""

import re

import numpy as np

from genrec import config
from genrec.decoding import benchmark

SIZES = (4, 8)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def test_calls_are_measured_interleaved():
    calls = []
    taken = benchmark.interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.01)
    assert calls[:4] == ["a", "b", "a", "b"] and set(taken) == {"a", "b"}
    assert all(0 <= seconds < 1 for seconds in taken.values())


def test_random_codes_fit_their_sizes():
    codes = benchmark.random_codes(100, SIZES)
    assert codes.dtype == np.uint16 and codes.max(axis=0).tolist() == [3, 7]


def test_skewed_codes_put_half_of_the_items_under_one_in_a_hundred_prefixes():
    codes = benchmark.skewed_codes(20_000, (2048, 8))
    assert codes.dtype == np.uint16 and codes.max(axis=0).tolist()[1] == 7
    counts = np.sort(np.bincount(codes[:, 0], minlength=2048))
    assert counts[-20:].sum() > 10_000
    assert np.bincount(codes[:, 1]).min() > 20_000 / 8 * 0.9


def test_constraint_overhead():
    first, header, *lines = benchmark.constraint_overhead(
        items=100, sizes=SIZES, batch=2, beams=3, seconds=0.01
    ).splitlines()
    assert first == "100 items, 2 levels of 4, batch x beam 2 x 3"
    assert [re.split(r" {2,}", line)[0] for line in lines] == [
        "unconstrained",
        "catalogue",
        "filter of 30%",
        "skewed catalogue",
        "its largest ranges",
        "50 seen",
    ]
    assert "of unconstrained" in header and all(len(numbers(line)) == 3 for line in lines)
    assert numbers(lines[0])[1] == numbers(lines[1])[2] == 1


def test_index_costs():
    lines = benchmark.index_costs(items=benchmark.CHANGED, sizes=SIZES).splitlines()
    assert len(lines) == 5 and "add 1000 items, remove 1000" in lines[3]
    assert "starts" in lines[-1] and "layout Layout(sizes=(4, 8), tables=2" in lines[-1]


def test_level_costs_of_a_random_model():
    model = config.Model(width=8, encoder_layers=1, decoder_layers=1, heads=1, head_width=8, mlp=8, user_tokens=3)
    experiment = config.Experiment(model=model, training=config.Training(max_history=2))
    text = benchmark.of_random(experiment, items=20, sizes=SIZES, batch=2, beams=(2,), seconds=0.05)
    for part in ("batch 2", "beams", "users/s", "level", "reorder", "encoder", "whole"):
        assert part in text
    assert "nan" not in text
