"""LC-Rec, LETTER and MiniOneRec: JSON by index number, items in the order of their vectors."""

import json

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import lcrec


def test_sequences_and_items_are_read_by_number(tmp_path):
    folder = published.lcrec(tmp_path)
    tables = lcrec.read(folder)
    inter = json.loads((folder / "Games/Games.inter.json").read_text())
    assert published.sequences(tables) == {user: list(map(str, items)) for user, items in inter.items()}
    assert tables.items.table["item_id"].to_pylist() == [str(i) for i in range(12)]  # rows of the vectors
    assert published.rows(tables.items)["10"]["title"] == "Game k"
    assert tables.text_fields == ("title", "description", "brand")


@pytest.mark.parametrize("content", ["[]", '{"0": 3}', "{", "", '{"0": [1, null]}', '{"0": [1.0]}'])
def test_other_content_is_refused(tmp_path, content):
    folder = published.lcrec(tmp_path)
    published.put(folder, "Games/Games.inter.json", content)
    with pytest.raises(DataError, match=r"Games\.inter\.json"):
        lcrec.read(folder)
