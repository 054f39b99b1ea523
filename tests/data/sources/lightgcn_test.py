"""LightGCN lists: training and test items of a user in one sequence, users without items, original ids."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import lightgcn


def test_lists_of_a_user_follow_each_other(tmp_path):
    tables = lightgcn.read(published.lightgcn(tmp_path))
    log = tables.interactions.table.to_pylist()
    of_user = {user: [row["item_id"] for row in log if row["user_id"] == user] for user in "012"}
    assert of_user == {"0": ["0", "1", "2", "3"], "1": ["2", "0"], "2": ["1"]}
    assert [row["order"] for row in log if row["user_id"] == "0"] == [0, 1, 2, 3]
    assert published.rows(tables.items)["3"] == {"item_id": "3", "original_id": "5535878"}
    assert tables.text_fields == ()


@pytest.mark.parametrize("content", ["0 \n1\n", "\n \n"])
def test_lists_without_items_are_refused(tmp_path, content):
    for name in ("train.txt", "test.txt"):
        published.put(tmp_path, name, content)
    with pytest.raises(DataError, match="no rows"):
        lightgcn.read(tmp_path)
