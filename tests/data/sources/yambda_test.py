"""Yambda as published: flat and sequential Parquet, unsigned integers, times without a known day."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import yambda


@pytest.mark.parametrize("layout", ["flat/50m/listens", "sequential/50m/listens", "flat/50m", "sequential/50m"])
def test_flat_and_sequential_give_the_same(tmp_path, layout):
    tables = yambda.read(published.yambda(tmp_path), layout)
    assert published.sequences(tables) == {"100": ["8326270", "4"], "200": ["4"]}  # item 9 has no vector
    assert "timestamp" not in tables.interactions.table.column_names
    assert tables.interactions.table["rating"].to_pylist() == [95, 100, 50]
    items = published.rows(tables.items)
    assert items["4"]["artists"] == ["artist1", "artist2"] and items["4"]["vector"] == pytest.approx([0.6, 0.8])


def test_events_have_types_and_items_need_no_vector(tmp_path):
    folder = published.yambda(tmp_path)
    (folder / "embeddings.parquet").unlink()
    (folder / "artist_item_mapping.parquet").unlink()
    tables = yambda.read(folder, "multi_event")
    assert tables.interactions.table["event_type"].to_pylist() == ["listen", "like", "unlike", "listen"]
    assert tables.items.table["item_id"].to_pylist() == ["8326270", "4", "9"] and tables.text_fields == ()


def test_the_size_is_chosen(tmp_path):
    with pytest.raises(DataError, match=r"flat/50m/listens\.parquet, sequential/50m/listens\.parquet.*data\.subset"):
        yambda.read(published.yambda(tmp_path))
