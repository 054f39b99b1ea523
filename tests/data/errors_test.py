"""Problems of parts are merged to those of the whole."""

import pytest

from genrec.data import errors
from genrec.data.errors import DataError, Problems


def part(count, first):
    problems = Problems()
    problems.add("log.csv, column user_id", "empty id", "Give every row an id.", count=0)
    problems.add("log.csv", "unknown", "Add.", count=count, examples=[f"line {first + row}" for row in range(count)])
    return problems


def test_merged_problems_count_all_and_show_the_first():
    merged = errors.merge([part(0, 1), part(2, 10), part(4, 20)])
    with pytest.raises(DataError) as caught:
        merged.raise_if_any()
    assert str(caught.value).splitlines() == [
        "1 problem in the data; nothing was written.",
        "- log.csv: unknown (6 rows): line 10; line 11; line 20; .... Add.",
    ]


def test_kinds_keep_the_order_in_which_they_are_checked():
    late = part(1, 5)
    late.kinds[0] = errors.Problem("log.csv, column user_id", "empty id", "Give every row an id.", 1, ("line 9",))
    assert [problem.what for problem in errors.merge([part(1, 1), late]).found] == ["empty id", "unknown"]


def test_problems_of_no_rows_are_not_raised():
    errors.merge([part(0, 1), part(0, 2)]).raise_if_any()
