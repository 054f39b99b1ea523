"""Slices of the Million Playlist Dataset: playlists are users, and `pos` is the order."""

import json

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import million_playlist


def test_tracks_are_ordered_by_position(tmp_path):
    tables = million_playlist.read(published.million_playlist(tmp_path))
    track = "spotify:track:{}".format
    expected = {"0": ["a", "b", "a"], "1000": ["a", "c"], "10000": ["d"]}
    assert published.sequences(tables) == {user: list(map(track, names)) for user, names in expected.items()}
    assert list(published.rows(tables.items)) == list(map(track, "abcd"))  # slices in the order of their numbers
    item = published.rows(tables.items)[track("a")]
    assert item["title"] == "Lose a - Missy Elliott" and item["album"] == "The Cookbook"
    assert published.rows(tables.users)["1000"]["name"] == "Throwbacks"


def test_a_track_without_names_has_the_text_that_it_has(tmp_path):
    tracks = [{"pos": 0, "track_uri": "t:1", "track_name": None, "artist_name": "Ada"}, {"pos": 1, "track_uri": "t:2"}]
    content = {"playlists": [{"pid": 7, "name": "x", "tracks": tracks}]}
    published.put(tmp_path, "mpd.slice.0-999.json", json.dumps(content))
    items = published.rows(million_playlist.read(tmp_path).items)
    assert [item["title"] for item in items.values()] == ["Ada", "t:2"]


def test_other_json_is_refused(tmp_path):
    published.put(tmp_path, "mpd.slice.0-999.json", '{"playlists": [{"pid": 1}]}')
    with pytest.raises(DataError, match=r"mpd\.slice\.0-999\.json.*tracks"):
        million_playlist.read(tmp_path)
