"""Passes over pieces on the DirectRunner: ordered results, combinations, groups, and errors that say what to do."""

import operator
import sys

import pytest
from etils import epath

from genrec.data.beam import runner as beam_runner
from genrec.data.beam.runner import BeamError, BeamRunner
from genrec.data.errors import DataError


def square(number):
    if number < 0:
        raise DataError(f"{number} is negative")
    return number**2


def digits(number):
    return [(digit, number) for digit in str(number)]


def sorted_with_key(key, values):
    return key, sorted(values)


def test_map_keeps_the_order_combine_merges_and_group_groups_by_key(tmp_path):
    runner, folder = BeamRunner("DirectRunner"), epath.Path(tmp_path)
    numbers = list(range(20))
    assert runner.map("square", square, numbers, folder) == [number**2 for number in numbers]
    assert runner.combine("sum", square, operator.add, numbers, folder) == sum(number**2 for number in numbers)
    groups = runner.group("digits", digits, sorted_with_key, [12, 3, 21, 30], folder)
    assert groups == [("0", [30]), ("1", [12, 21]), ("2", [12, 21]), ("3", [3, 30])]


def test_errors_for_users_are_raised_unchanged(tmp_path):
    with pytest.raises(DataError, match="^-2 is negative$"):
        BeamRunner("DirectRunner").map("square", square, [1, -2, 3, -4], epath.Path(tmp_path))


def test_other_errors_are_raised_by_beam(tmp_path):
    with pytest.raises(Exception, match="nine"):
        BeamRunner("DirectRunner").map("int", int, ["nine"], epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("FastRunner", [], "--beam_runner=FastRunner.*DirectRunner"),
        ("DirectRunner", ["direct_num_workers=2"], "=direct_num_workers=2.*--NAME=VALUE"),
        ("DirectRunner", ["--direct_num_workers=two"], "--direct_num_workers=two"),
        ("", ["--direct_num_workers=2"], "--beam_options.*--beam_runner"),
    ],
)
def test_invalid_runners_and_options_are_refused(name, options, message):
    with pytest.raises(BeamError, match=message):
        beam_runner.of_flags(name, options)


def test_without_a_name_there_is_no_runner():
    assert beam_runner.of_flags("", []) is None


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(BeamError, match=r"pip install -e '\.\[beam\]'"):
        beam_runner.of_flags("DirectRunner", [])
