"""Last.fm-1K as published: newest first, tracks without ids, quotation marks that are text, repeated plays."""

import published

from genrec.data.sources import lastfm_1k, parsing

NAMELESS = "Deep Dish - Fuck Me Im Famous (Pacha Ibiza)"


def test_plays_are_turned_to_oldest_first_and_tracks_without_id_kept(tmp_path):
    tables = lastfm_1k.read(published.lastfm_1k(tmp_path))
    assert published.sequences(tables) == {"user_000001": ["t3", "t2", NAMELESS], "user_000002": [NAMELESS]}
    items = published.rows(tables.items)
    assert items["t2"]["title"] == '坂本龍一 - Composition 0919 ("Live")' and items["t3"]["artist"] == "坂本龍一"
    users = published.rows(tables.users)
    assert users["user_000001"]["age"] is None and users["user_000002"]["age"] == 24


def test_blocks_give_the_same_as_the_whole(tmp_path, monkeypatch):
    folder = published.lastfm_1k(tmp_path)
    whole = lastfm_1k.read(folder)
    monkeypatch.setattr(parsing, "BLOCK_BYTES", 50)  # shorter than a line
    parts = lastfm_1k.read(folder)
    assert parts.interactions.table.equals(whole.interactions.table) and parts.items.table.equals(whole.items.table)
    assert [parts.interactions.where(row) for row in range(4)] == ["line 1", "line 2", "line 4", "line 5"]
