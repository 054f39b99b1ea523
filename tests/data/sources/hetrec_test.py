"""HetRec 2011 as published: CR LF, milliseconds, several tags at a time, Latin-1, wrong years, unknown artists."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import hetrec


def test_tagged_artists(tmp_path):
    tables = hetrec.read(published.hetrec(tmp_path, "lastfm"))
    assert published.sequences(tables) == {"2": ["63", "52"]}
    assert published.rows(tables.items)["52"] == {
        "item_id": "52",
        "title": "Morcheeba",
        "url": "http://www.last.fm/music/M",
    }


def test_rated_films(tmp_path):
    tables = hetrec.read(published.hetrec(tmp_path, "movielens"))
    assert published.sequences(tables) == {"75": ["3", "32"]}
    assert [float(row["rating"]) for row in tables.interactions.table.to_pylist()] == [1.0, 4.5]
    items = published.rows(tables.items)
    assert items["3"] == {"item_id": "3", "title": "Les Misérables", "genres": ["Comedy", "Romance"], "year": 1993}
    assert items["32"]["genres"] == [] and items["32"]["year"] == 1995


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="user_taggedartists.*data.folder"):
        hetrec.read(tmp_path)
