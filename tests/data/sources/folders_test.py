"""Files of a dataset are found in folders within the folder, and what is missing or twice there is named."""

import published
import pytest

from genrec.data.errors import DataError
from genrec.data.sources import folders


def test_names_and_ends_of_paths_are_found_in_any_folder(tmp_path):
    folder = tmp_path / "a [1]*"  # a name that would be a pattern
    for name in (
        "x.csv",
        "one/x.csv",
        "one/two/three/x.csv",
        "one/y.csv",
        "__MACOSX/x.csv",
        ".git/x.csv",
        "one/._x.csv",
    ):
        published.put(folder, name, "")
    found = [str(path.relative_to(folder)) for path in folders.find(folder, "x.csv")]
    assert found == ["one/two/three/x.csv", "one/x.csv", "x.csv"]
    assert [path.name for path in folders.find(folder, "on*/y.*", "*/y.csv")] == ["y.csv"]
    assert folders.one(folder, "y.csv").parent.name == "one"
    assert folders.at_most_one(folder, "z.csv") == []


def test_what_is_missing_or_there_twice_is_named(tmp_path):
    published.put(tmp_path, "ml-1m.zip", "")
    with pytest.raises(DataError, match=r"one file x\.csv, found none\. Unpack ml-1m\.zip"):
        folders.one(tmp_path, "x.csv")
    for name in ("a/x.csv", "b/x.csv"):
        published.put(tmp_path, name, "")
    for find in (folders.one, folders.at_most_one):
        with pytest.raises(DataError, match=r"a/x\.csv, b/x\.csv.*data\.subset"):
            find(tmp_path, "x.csv")
    assert len(folders.some(tmp_path, "x.csv")) == 2
    with pytest.raises(DataError, match="absent: no such folder"):
        folders.find(tmp_path / "absent", "x.csv")
