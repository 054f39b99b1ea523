"""Steam as published: Python literals, days, repeated reviews, prices that are texts, games that are not described."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import steam


def test_reviews_and_games_are_read(tmp_path):
    tables = steam.read(published.steam(tmp_path))
    assert published.sequences(tables) == {"Chaos Syren": ["10", "725280", "99"]}
    items = published.rows(tables.items)
    assert items["725280"]["genres"] == ["Action", "Indie"] and items["725280"]["price"] == 4.99
    assert items["10"]["title"] == "Counter-Strike: \u201cX\u201d" and items["10"]["price"] == 0.0
    assert items["99"]["title"] == "99"


def test_reviews_without_a_user_are_left_out(tmp_path):
    folder = published.steam(tmp_path)
    row = "{'username': %s, 'product_id': '10', 'date': '2017-12-16'}\n"
    published.put(folder, "steam_reviews.json.gz", row % "None" + row % "'a'")
    assert published.sequences(steam.read(folder)) == {"a": ["10"]}


def test_a_line_that_is_no_literal_is_named_and_not_run(tmp_path):
    folder = published.steam(tmp_path / "raw")
    planted = tmp_path / "planted"
    published.put(folder, "steam_games.json.gz", f"{{'id': '10'}}\n{{'id': open({str(planted)!r}, 'w').name}}\n")
    with pytest.raises(DataError, match=r"steam_games\.json\.gz, line 2"):
        steam.read(folder)
    assert not planted.exists()
