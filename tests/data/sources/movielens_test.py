"""MovieLens in its layouts: 100K and 1M in Latin-1, `::`, and CSV with quoted titles."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import movielens


@pytest.mark.parametrize("layout", ["100k", "1m", "10m", "20m"])
def test_every_layout_gives_the_same_log_and_items(tmp_path, layout):
    tables = movielens.read(published.movielens(tmp_path, layout, users=2))
    assert published.sequences(tables) == {"1": ["2", "1", "3"], "2": ["2", "1", "3"]}
    assert [float(row["rating"]) for row in tables.interactions.table.to_pylist()[:3]] == [5, 3, 4]
    items = published.rows(tables.items)
    assert items["2"]["title"] == "Cité des enfants perdus, La (1995)" and items["2"]["year"] == 1995
    assert items["3"]["title"] == 'Film "X"' and items["3"]["year"] is None and items["3"]["genres"] == []
    assert "Animation" in items["1"]["genres"] and len(items["1"]["genres"]) >= 2


def test_users_have_their_attributes(tmp_path):
    users = published.rows(movielens.read(published.movielens(tmp_path / "a", "1m")).users)
    assert users["1"] == {
        "user_id": "1",
        "gender": "F",
        "age": "under 18",
        "occupation": "K-12 student",
        "zip_code": "48067",
    }
    users = published.rows(movielens.read(published.movielens(tmp_path / "b", "100k")).users)
    assert users["1"]["age"] == 24 and users["1"]["occupation"] == "technician"


def test_one_of_several_is_chosen_and_a_short_line_is_named(tmp_path):
    folder = published.movielens(published.movielens(tmp_path, "1m"), "20m")
    with pytest.raises(DataError, match=r"data\.subset"):
        movielens.read(folder)
    assert len(movielens.read(folder, "ml-20m").items) == 3
    published.put(folder, "ml-1m/ratings.dat", "1::1::5::978302000\n1::2\n")
    with pytest.raises(DataError, match=r"ratings\.dat, line 2"):
        movielens.read(folder, "ml-1m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"u\.data.*ratings\.csv.*data\.folder"):
        movielens.read(tmp_path / "empty")
