"""Filters against plain Python: conditions on columns of every type, their errors, and sets of items."""

import datetime
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Condition, Filter

DAYS = [(1999, 1, 1), (2023, 12, 30), (2023, 12, 31), (2024, 1, 1), (2025, 1, 1), (2030, 6, 1)]
ROWS = {
    "kind": ["music", "podcast", None, "music", "", "Music"],
    "explicit": [True, False, None, True, False, False],
    "year": [1999, 2004, None, 2004, -3, 2024],
    "nanoseconds": [2**60 + 1, None, 5, 2**60 - 2**40, 0, -(2**62)],
    "rating": [4.5, None, float("nan"), 1.0, 4.0, -0.5],
    "released": ["2024-01-31", "1706745600", None, "", "2024-02-01T00:00:00Z", "2023-12-31 23:59"],
    "seen": [datetime.datetime(2024, 1, day) if day else None for day in (1, 2, 0, 3, 4, 5)],
    "price": ["4.20", "4.90", "9.99", "9.50", "0.70", ""],
    "day": [datetime.date(*day) for day in DAYS],
    "code": ["1999", "2004", None, "2004.0", "-3", "2024"],
    "countries": ["DE|FR", "FR | all", None, "", "DE", "FRA|D"],
    "tags": [["a", "b"], [], None, ["b"], ["b", None], ["ab"]],
    "numbers": [[1, 2], [], None, [2], [3], [12]],
    "artist": [{"name": "a"}, None, None, {"name": "b"}, {"name": "a"}, {"name": "c"}],
}
CATALOGUE = Catalogue(pa.table({"item_id": list("uvwxyz")} | ROWS), ())


def passing(text: str) -> list[int]:
    mask = Condition.parse(text).mask(CATALOGUE)
    assert mask.dtype == bool and mask.shape == (6,)
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    "text, column, operator, values",
    [
        ("media_type=music", "media_type", "=", ("music",)),
        ("media_type = music, podcast", "media_type", "=", ("music", "podcast")),
        ("media_type!=music", "media_type", "!=", ("music",)),
        ("countries~DE,all", "countries", "~", ("DE", "all")),
        ("release_time>=2024-01-31", "release_time", ">=", ("2024-01-31",)),
        ("rating <= 4.5", "rating", "<=", ("4.5",)),
        ("title=a=b>=c", "title", "=", ("a=b>=c",)),
        ("kind=", "kind", "=", ("",)),
        ("  two words =x", "two words", "=", ("x",)),
    ],
)
def test_conditions_are_parsed(text, column, operator, values):
    assert Condition.parse(text) == Condition(column, operator, values)


@pytest.mark.parametrize("text", ["", "music", "=music", ">=3", "rating>3", "rating<3", "a!b"])
def test_malformed_conditions_are_refused(text):
    with pytest.raises(DataError, match=rf"{re.escape(repr(text))}.*COLUMN"):
        Condition.parse(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("kind=music", [0, 3]),
        ("kind=music,podcast", [0, 1, 3]),
        ("kind=", [4]),
        ("kind=nothing", []),
        ("kind!=music", [1, 2, 4, 5]),
        ("kind!=music,podcast", [2, 4, 5]),
        ("kind~music", [0, 3]),
        ("explicit=true", [0, 3]),
        ("explicit=false", [1, 4, 5]),
        ("explicit!=true", [1, 2, 4, 5]),
        ("year=2004", [1, 3]),
        ("year=2004,-3", [1, 3, 4]),
        ("year>=2004", [1, 3, 5]),
        ("year<=2004", [0, 1, 3, 4]),
        ("year<=-3.5", []),
        ("nanoseconds>=1.152e18", [0, 3]),  # numbers that float64 has to round
        ("nanoseconds<=5", [2, 4, 5]),
        ("rating>=4", [0, 4]),
        ("rating=4.0,-.5", [4, 5]),
        ("rating!=4,4.50", [1, 2, 3, 5]),
        ("seen=2024-01-01", [0]),
        ("rating<=4.0", [3, 4, 5]),
        ("released>=2024-02-01", [1, 4]),  # 1706745600 is 1 February 2024
        ("released<=2024-01-31", [0, 5]),
        ("released>=1706745600", [1, 4]),
        ("released<=2024-01-01T00:00:00+01:00", []),
        ("released<=2024-01-01T00:00:00-01:00", [5]),
        ("seen>=2024-01-03", [3, 4, 5]),
        ("seen<=2024-01-01", [0]),
        ("countries~DE", [0, 4]),
        ("countries~all", [1]),
        ("countries~FR,all", [0, 1]),
        ("countries!~FR,all", [2, 3, 4, 5]),
        ("tags!~b,ab", [1, 2]),
        ("countries=DE", [4]),
        ("tags~a", [0]),
        ("tags~b,ab", [0, 3, 4, 5]),
        ("numbers~2", [0, 3]),
        ("explicit=True", [0, 3]),
        ("year=2004.0", [1, 3]),
        ("year>=2003.5", [1, 3, 5]),
        ("year>=-1e999999999", [0, 1, 3, 4, 5]),
        ("nanoseconds=1152921504606846977", [0]),  # 2 ** 60 + 1, which float64 rounds
        ("nanoseconds<=1152921504606846976", [2, 3, 4, 5]),
        ("seen=2024-01", [0, 1, 3, 4, 5]),
        ("seen=2023", []),
        ("released=1706745600", [1]),  # as text
        ("price>=9.5", [2, 3]),
        ("price<=4.5", [0, 4]),
        ("day>=2024", [3, 4, 5]),
        ("day<=2024", [0, 1, 2, 3]),
        ("day>=2024-02", [4, 5]),
        ("day<=2023-12", [0, 1, 2]),
        ("day!=2024", [0, 1, 2, 4, 5]),
        ("code>=2000", [1, 3, 5]),  # a number, and no year
    ],
)
def test_items_that_fulfil_a_condition(text, expected):
    assert passing(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("color=red", "'color'.*item_id, kind"),
        ("tags=a", "'tags'.*~"),
        ("tags!=a", "'tags'"),
        ("tags>=3", "'tags'"),
        ("artist~a", "'artist'.*struct"),
        ("rating=good", "'rating'.*'good'"),
        ("year>=2000,2001", "'year'.*>=.*2"),
        ("year<=soon", "'year'.*'soon'"),
        ("released>=", "'released'.*''"),
        ("kind>=3", "'kind'.*4 of its cells.*'music'"),
        ("explicit=1", "'explicit'.*'1'"),
        ("explicit>=true", "'explicit'"),
        ("day=2024-02-30", "'day'.*'2024-02-30'"),
    ],
)
def test_conditions_that_do_not_suit_the_column_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        Condition.parse(text).mask(CATALOGUE)


CONDITIONS = ["kind=music", "kind!=music", "explicit=false", "year>=2004", "countries~FR,DE"]
some_items = st.frozensets(st.integers(-2, 12))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.sampled_from(CONDITIONS)), st.none() | some_items, some_items, st.integers(1, 10))
def test_a_filter_is_the_conjunction_of_its_conditions_and_lists(texts, allow, deny, items):
    """Holds for fewer items than the catalogue has, too, and for more, which fulfil no condition."""
    mask = Filter(Filter.parse(texts).conditions, allow, deny).mask(items, CATALOGUE)
    for item in range(items):
        expected = all(item < 6 and item in passing(text) for text in texts)
        assert mask[item] == (expected and (allow is None or item in allow) and item not in deny)


def test_without_conditions_no_catalogue_is_needed():
    assert Filter(deny=frozenset([1])).mask(3, None).tolist() == [True, False, True]
    assert EVERYTHING.mask(3, None).all()
    with pytest.raises(DataError, match="'kind'.*catalogue"):
        Filter.parse(["kind=music"]).mask(3, None)


def test_equal_filters_have_equal_hashes():
    def made() -> Filter:
        return Filter(Filter.parse(["kind=music", "year>=2004"]).conditions, frozenset([2, 1]), frozenset([3]))

    assert made() == made() and len({made(), made(), EVERYTHING, Filter()}) == 2
    others = [Filter.parse(["kind=music"]), Filter(allow=frozenset()), Filter(deny=frozenset([1])), made(), EVERYTHING]
    assert len(set(others)) == 5


@pytest.mark.parametrize("text", ["countries=FR", "countries!=FR", "countries=all,D"])
def test_values_that_stand_among_others_only_are_refused_with_the_operator_to_use(text):
    with pytest.raises(DataError, match=r"countries.*among other values.*~"):
        Condition.parse(text).mask(CATALOGUE)
