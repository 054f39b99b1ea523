"""MIND as published: clicks of impressions, histories that may be empty, American times, quotes that are text."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import mind


def test_histories_come_before_clicks_in_the_order_of_time(tmp_path):
    tables = mind.read(published.mind(tmp_path))
    assert published.sequences(tables) == {"U1": ["N1", "N2", "N4", "N3"], "U2": ["N5", "N6", "N7"]}
    times = [row["timestamp"].isoformat() for row in tables.interactions.table.to_pylist() if row["item_id"] == "N3"]
    assert times == ["2019-11-12T14:14:46+00:00"]


def test_news_are_read_once_with_quotes(tmp_path):
    tables = mind.read(published.mind(tmp_path))
    items = published.rows(tables.items)
    assert len(tables.items) == len(items) == 7
    assert items["N1"]["title"] == 'The "Brands" 1' and items["N3"]["description"] == ""
    assert items["N1"]["category"] == "lifestyle"


def test_one_part_is_chosen_and_a_wrong_time_is_named(tmp_path):
    folder = published.mind(tmp_path)
    assert published.sequences(mind.read(folder, "MINDsmall_dev")) == {"U2": ["N5", "N7"]}
    published.put(
        folder, "MINDsmall_dev/behaviors.tsv", "1\tU\t11/15/2019 8:55:22 AM\t\tN7-1\n2\tU\t2019-11-15\t\tN7-1\n"
    )
    with pytest.raises(DataError, match=r"line 2.*2019-11-15"):
        mind.read(folder, "MINDsmall_dev")
