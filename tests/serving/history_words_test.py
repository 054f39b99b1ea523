import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.serving import history_words


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"media_type": ["music", "Podcasts", None]}, "played"),
        ({"type": ["book", "ebook"]}, "read"),
        ({"media_type": ["film", "series"]}, "watched"),
        ({"media_type": ["music", "book"]}, "chosen"),
        ({"brand": ["A", "B"]}, "bought"),
        ({}, "chosen"),
    ],
)
def test_the_word_fits_all_items(columns, expected):
    rows = len(next(iter(columns.values()), ["a"]))
    catalogue = Catalogue(pa.table({"item_id": list("abc")[:rows], **columns}), ())
    assert history_words.chosen(catalogue) == expected
