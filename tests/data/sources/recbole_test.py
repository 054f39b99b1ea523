"""RecBole's atomic files: headers with types, sequences of words, cells that are not quoted."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import recbole


def test_headers_with_types_are_read(tmp_path):
    tables = recbole.read(published.recbole(tmp_path))
    assert published.sequences(tables) == {"196": ["007", "242"], "22": ["242"]}
    items = published.rows(tables.items)
    assert items["242"]["title"] == 'Kolya "the" boy' and items["242"]["class"] == "Comedy Drama"
    assert items["242"]["v"] == [0.1, 0.2] and items["242"]["score"] == 7.5
    assert items["007"]["score"] is None and items["007"]["v"] is None
    assert tables.text_fields == ("title", "class")
    assert published.rows(tables.users)["22"]["age"] == "25"


def test_items_without_texts_or_rows_have_their_id(tmp_path):
    published.put(
        tmp_path, "x.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t2000000001\nu\tb\t2000000000\n"
    )
    published.put(tmp_path, "x.item", "item_id:token\ttitle:token_seq\na\t \n")
    tables = recbole.read(tmp_path)
    assert published.sequences(tables) == {"u": ["b", "a"]}
    assert {item: row["title"] for item, row in published.rows(tables.items).items()} == {"a": "a", "b": "b"}


def test_other_ids_and_no_times(tmp_path):
    published.put(tmp_path, "lastfm.inter", "user_id:token\tartist_id:token\tweight:float\nu\tb\t9\nu\ta\t1\n")
    published.put(tmp_path, "lastfm.item", "artist_id:token\tname:token_seq\na\tAbba\nb\tBlur\n")
    assert published.sequences(recbole.read(tmp_path)) == {"u": ["b", "a"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id:token\titem_id\nu\ta\n", "line 1.*item_id:token"),
        ("user_id:token\titem_id:token\titem_id_list:token_seq\nu\ta\tb c\n", "item_id_list"),
        ("user_id:token\titem_id:token\nu\n", "line 2"),
        ("user_id:token\titem_id:token\tx:float\nu\ta\tbad\n", "column x:float"),
        ("", "line 1"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    published.put(tmp_path, "x.inter", content)
    with pytest.raises(DataError, match=message):
        recbole.read(tmp_path)
