"""The adapter reads files in exactly the form of McAuley's: JSON reviews, and metadata in Python literals."""

import gzip
import json

import pytest

from genrec.config import Data
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.data.prepare import prepare
from genrec.data.sources import mcauley


def review(user, asin, rating=5.0, day=0):
    return {
        "reviewerID": user,
        "asin": asin,
        "reviewerName": 'bra "lady" O\'Neil',
        "helpful": [3, 4],
        "reviewText": "Very oily and creamy.\nNot at all what I expected, \u201creally\u201d.",
        "overall": rating,
        "summary": "Don't waste your money",
        "unixReviewTime": 1391040000 + 86400 * day,
        "reviewTime": "01 30, 2014",
    }


META = [
    {
        "asin": "0000000007",
        "description": 'Moisturizes & softens: "SPF 50", it\'s safe.\n2 oz',
        "title": "Sun's Cream",
        "price": 12.99,
        "imUrl": "http://ecx.images-amazon.com/images/I/31.jpg",
        "related": {"also_bought": ["B000000001"], "buy_after_viewing": ["B000000002"]},
        "salesRank": {"Beauty": 1021},
        "brand": "Käthe",
        "categories": [["Beauty", "Skin Care"], ["Beauty", "Gifts"]],
    },
    {"asin": "B000000001", "categories": [["Beauty"]], "imUrl": "http://x/y.jpg"},
    {"asin": "B999999999", "title": "Never reviewed", "categories": [["Beauty"]]},
]


def write_folder(folder, reviews, meta=META):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "reviews_Beauty_5.json.gz", "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in reviews)
    with gzip.open(folder / "meta_Beauty.json.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{m!r}\n" for m in meta)
    return folder


def test_the_original_format_is_read(tmp_path):
    reviews = [review("A1", "0000000007", 4.0, 3), review("A1", "B000000001", 5.0, 1), review("A2", "B000000003")]
    tables = mcauley.read(write_folder(tmp_path, reviews))
    assert tables.interactions.table.to_pylist()[0] == {
        "user_id": "A1",
        "item_id": "0000000007",
        "timestamp": 1391040000 + 3 * 86400,
        "rating": 4.0,
    }
    first, second, third = tables.items.table.to_pylist()
    assert first["item_id"] == "0000000007" and first["title"] == "Sun's Cream" and first["brand"] == "Käthe"
    assert first["categories"] == "Beauty, Skin Care, Gifts" and first["price"] == "12.99"
    assert first["description"].startswith('Moisturizes & softens: "SPF 50"')
    assert second["item_id"] == second["title"] == "B000000001"  # metadata without a title
    assert third["item_id"] == third["title"] == "B000000003"  # no metadata
    assert len(tables.items) == 3  # what nobody reviewed is left out


def test_a_repeated_review_is_dropped(tmp_path):
    reviews = [review("A1", "0000000007"), review("A1", "0000000007"), review("A1", "0000000007", day=1)]
    assert len(mcauley.read(write_folder(tmp_path, reviews)).interactions) == 2


def test_the_stage_prepares_the_folder(tmp_path):
    folder = write_folder(
        tmp_path / "raw", [review(f"A{u}", asin, day=d) for u in range(3) for d, asin in enumerate("xyz")]
    )
    prepare(Data(source="mcauley", folder=str(folder), k_core=3), tmp_path / "dataset")
    data = Dataset(tmp_path / "dataset")
    sequence = data.split("test").read([1])[0]
    assert sequence.user_id == "A1"
    assert [data.catalogue.item_ids[i] for i in sequence.items] == ["x", "y", "z"]


def test_literals_are_parsed_and_never_evaluated(tmp_path):
    folder = write_folder(tmp_path, [review("A1", "x")])
    planted = tmp_path / "planted"
    with gzip.open(folder / "meta_Beauty.json.gz", "wt") as file:
        file.write("{'asin': 'x'}\n" + f"{{'asin': open({str(planted)!r}, 'w').name}}\n")
    with pytest.raises(DataError, match="meta_Beauty.json.gz, line 2"):
        mcauley.read(folder)
    assert not planted.exists()


def test_broken_reviews_and_folders_are_named(tmp_path):
    folder = write_folder(tmp_path / "a", [review("A1", "x"), {"reviewerID": "A1"}])
    with pytest.raises(DataError, match="reviews_Beauty_5.json.gz, line 2.*asin"):
        mcauley.read(folder)
    (tmp_path / "a" / "empty").mkdir()
    with pytest.raises(DataError, match=r"reviews_\*_5.json.gz.*data.folder"):
        mcauley.read(tmp_path / "a" / "empty")
