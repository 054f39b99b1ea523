"""Amazon Reviews 2018 as published: days, repeated lines, HTML in texts, prices that are texts."""

import published

from genrec.data.sources import amazon_2018


def test_reviews_of_a_day_keep_the_order_of_the_file(tmp_path):
    tables = amazon_2018.read(published.amazon_2018(tmp_path))
    assert published.sequences(tables) == {"A3CIUOJXQ5VDQ2": ["B00021DJ32", "B00006L9LC", "B0000530HU"]}


def test_items_are_described_once_without_html(tmp_path):
    items = published.rows(amazon_2018.read(published.amazon_2018(tmp_path)).items)
    shave = items["B0000530HU"]
    assert shave["title"] == "Aqua Velva After Shave & Balm" and shave["price"] == 1012.5
    assert shave["description"] == ['Loud & Clear  8"'] and shave["brand"] == "Aqua Velva"
    script = items["B00006L9LC"]
    assert script["title"] == "B00006L9LC" and script["price"] is None and script["brand"] is None
    assert script["categories"] == ["Beauty", "Hair"]
    assert items["B00021DJ32"]["title"] == "B00021DJ32"  # no metadata
