"""S3-Rec's sequence files: the order stands in for times, the catalogue has the order of items.csv."""

import published
import pytest

from genrec.config import Data
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare
from genrec.data.sources import s3rec

ITEMS = 'item_id,asin,title,attribute_ids\n1,B001,"Lacquer, red",3 4\n2,B002,,3\n3,B003,Oil,\n4,B004,Comb,1\n'


def write_folder(folder, sequences="9 3 1 2 1\n8 2 1 3\n", items=ITEMS):
    folder.mkdir(exist_ok=True)
    (folder / "sequences.txt").write_text(sequences)
    (folder / "items.csv").write_text(items)
    return folder


def test_sequences_keep_their_order(tmp_path):
    folder = write_folder(tmp_path / "raw")
    prepare(Data(source="s3rec", folder=str(folder), k_core=0), tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    assert data.catalogue.item_ids == ["1", "2", "3", "4"]
    assert data.catalogue.titles == ["Lacquer, red", "B002", "Oil", "Comb"]  # the asin names what has no title
    assert [(r.user_id, r.items.tolist()) for r in data.split("test").read([0, 1])] == [
        ("9", [2, 0, 1, 0]),
        ("8", [1, 0, 2]),
    ]


def test_filtered_items_keep_their_source_row(tmp_path):
    folder = write_folder(tmp_path / "raw", "1 4 2 3\n2 3 4 2\n")
    prepare(Data(source="s3rec", folder=str(folder), k_core=2), tmp_path / "dataset")
    catalogue = Dataset(tmp_path / "dataset").catalogue
    assert catalogue.item_ids == ["2", "3", "4"]
    assert catalogue.table["source_row"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"sequences": "1 2 3\n2\n"}, "sequences.txt, line 2"),
        ({"items": "item_id,name\n1,x\n"}, "items.csv.*asin.*title"),
    ],
)
def test_broken_files_are_named(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        s3rec.read(write_folder(tmp_path, **files))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent: no such folder.*data.folder"):
        s3rec.read(tmp_path / "absent")
    with pytest.raises(DataError, match=r"absent: no such folder.*data.folder"):
        prepare(Data(source="s3rec", folder=str(tmp_path / "absent")), tmp_path / "dataset")


def test_an_order_cannot_be_split_by_time(tmp_path):
    config = Data(source="s3rec", folder=str(write_folder(tmp_path / "raw")), k_core=0, split="temporal")
    with pytest.raises(DataError, match="data.split.*timestamp"):
        prepare(config, tmp_path / "dataset")


def test_the_published_files_have_attributes(tmp_path):
    folder = published.s3rec(tmp_path)
    tables = s3rec.read(folder, "Beauty")
    assert published.sequences(tables) == {"1": ["1", "2", "3"], "2": ["3", "1"]}
    assert published.rows(tables.items)["1"]["attributes"] == ["attribute1", "attribute2"]
    published.put(folder, "Beauty.txt", "1 1 4 3\n")
    assert published.rows(s3rec.read(folder, "Beauty").items)["4"]["attributes"] == ["4"]
    assert published.sequences(s3rec.read(folder, "Toys")) == {"1": ["7", "8"]}
    with pytest.raises(DataError, match=r"Toys_and_Games.*data\.subset"):
        s3rec.read(folder)
