"""Tables: formats of cells, alignment, Markdown."""

import numpy as np
import pytest

from genrec import tables


def test_the_example_of_the_docstring():
    text = tables.text([["recall", 0.5, 1200], ["ndcg", None, 34]])
    assert text == "recall  0.5000  1,200\nndcg               34"


def test_strings_stay_as_they_are_and_numbers_of_numpy_are_formatted():
    rows = [["1e3", np.float32(0.5), np.int32(1234)], ["007", 2.0, 0]]
    assert [line.split() for line in tables.text(rows).splitlines()] == [
        ["1e3", "0.5000", "1,234"],
        ["007", "2.0000", "0"],
    ]


@pytest.mark.parametrize(("align", "expected"), [("l", "a    b    c"), ("r", "  a    b  c"), ("lr", "a      b  c")])
def test_the_last_letter_aligns_all_columns_that_follow(align, expected):
    assert tables.text([["a", "b", "c"], ["aaa", "bbb", "c"]], align=align).splitlines()[0] == expected


def test_each_column_may_have_its_own_format_and_an_empty_row_is_a_blank_line():
    lines = tables.text([[0.5, 0.5], [], [1.0, 1.0]], ["share", "value"], floats=[".0%", ".2f"]).splitlines()
    assert [line.split() for line in lines] == [["share", "value"], ["50%", "0.50"], [], ["100%", "1.00"]]


def test_markdown_has_a_header_line():
    head, rule, row = tables.text([["model", 0.5]], ["", "recall"], style=tables.MARKDOWN).splitlines()
    assert [cell.strip() for cell in head.split("|")] == ["", "", "recall", ""]
    assert set(rule) == set("|-:") and [cell.strip() for cell in row.split("|")] == ["", "model", "0.5000", ""]


def test_no_rows_leave_the_header():
    assert tables.text([], ["a", "b"]).split() == ["a", "b"] and tables.text([]) == ""


def test_wide_characters_take_two_places():
    wide, narrow = tables.text([["夜曲", 0.5], ["Plain", 0.5]], ["title", "score"]).splitlines()[1:]
    assert narrow.index("0.5") - wide.index("0.5") == len("夜曲")
