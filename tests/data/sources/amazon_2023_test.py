"""Amazon Reviews 2023 as published: milliseconds, parent_asin, prices of any type, JSON Lines or CSV."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import amazon_2023

USER = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"


@pytest.mark.parametrize("end", ["jsonl", "jsonl.gz", "csv", "csv.gz"])
def test_reviews_are_ordered_by_the_millisecond(tmp_path, end):
    tables = amazon_2023.read(published.amazon_2023(tmp_path, end))
    assert published.sequences(tables) == {USER: ["B1", "B2", "B3"]}
    log = tables.interactions.table.to_pylist()
    assert len(log) == 3 and log[0]["rating"] == 5.0
    assert log[0]["timestamp"].isoformat() == "2020-05-05T14:08:48.923000+00:00"


def test_items_keep_texts_and_prices_of_any_type(tmp_path):
    items = published.rows(amazon_2023.read(published.amazon_2023(tmp_path)).items)
    assert set(items) == {"B1", "B2", "B3"}
    assert items["B1"]["categories"] == ["Beauty", "Skin"] and items["B1"]["store"] == "Howard Products"
    assert [items[item]["price"] for item in ("B1", "B2", "B3")] == [12.99, None, 7.49]
    assert items["B2"]["title"] == "B2"  # no title


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9, 9.0),
        ("$1,299.00", 1299.0),
        ("12.99", 12.99),
        ("$5.99 - $9.99", 5.99),
        ("—", None),
        ("None", None),
        ("", None),
        (None, None),
        (float("nan"), None),
        (".a-box{color:#fff} .b{border: 1 px} c d e f g h i 5", None),
    ],
)
def test_prices(value, expected):
    assert amazon_2023.price(value) == expected


def test_splits_of_the_5_core_are_joined_and_preferred(tmp_path):
    folder = published.amazon_2023(tmp_path)
    header = "user_id,parent_asin,rating,timestamp,history\n"
    for name, row in (
        ("train", "u,B1,5.0,1588687728923,"),
        ("test", "u,B3,5.0,1588687728925,B1 B2"),
        ("valid", "u,B2,1.0,1588687728924,B1"),
    ):
        published.put(folder, f"benchmark/5core/last_out_w_his/All_Beauty.{name}.csv", f"{header}{row}\n")
    assert published.sequences(amazon_2023.read(folder)) == {"u": ["B1", "B2", "B3"]}


def test_a_category_is_chosen_and_a_broken_line_is_named(tmp_path):
    folder = published.amazon_2023(tmp_path)
    published.put(folder, "Gift_Cards.jsonl", '{"user_id": 1}\n{"user_id": \n')
    with pytest.raises(DataError, match=r"Gift_Cards.jsonl.*data\.subset"):
        amazon_2023.read(folder)
    assert len(amazon_2023.read(folder, "All_Beauty").interactions) == 3
    with pytest.raises(DataError, match=r"Gift_Cards.jsonl, line 2"):
        amazon_2023.read(folder, "Gift_Cards")
