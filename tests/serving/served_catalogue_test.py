import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.decoding.sorted_table import CatalogueError
from genrec.serving.served_catalogue import ItemChange, ServedCatalogue

SIZES = (4, 4, 8)
WORDS = ("calm", "loud", "night", "river")
SETTINGS = {"source": "tfidf", "content_width": len(WORDS)}
ARRAYS = {
    "terms": np.frombuffer("\n".join(WORDS).encode(), np.uint8),
    "idf": np.ones(len(WORDS), np.float32),
    "components": np.eye(len(WORDS), dtype=np.float32),
}
CHANGES = [
    ItemChange("add", "new", {"title": "calm night", "plays": 1}),
    ItemChange("remove", "b"),
    ItemChange("change", "new", {"title": "loud river", "plays": None}),
    ItemChange("add", "other", {"title": "calm night"}),
    ItemChange("remove", "new"),
    ItemChange("add", "b", {"title": "back", "day": "2024-02-29"}),
    ItemChange("add", "new", {"plays": 3}),
    ItemChange("remove", "other"),
    ItemChange("change", "a", {"title": "changed", "day": "2020-10-03"}),
    ItemChange("change", "a", {"title": "again"}),
]


def quantize(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of the largest and the smallest number as codes."""
    learned = np.array([vector[0].argmax(), vector[0].argmin()], np.int32)
    return learned, np.arange(SIZES[1], dtype=np.float32)


def catalogue() -> ServedCatalogue:
    columns = {
        "item_id": ["a", "b"],
        "title": ["one", "two"],
        "plays": [7, None],
        "day": pa.array([None, None], pa.date32()),
    }
    codes = np.array([[0, 0, 0], [1, 1, 1]], np.uint16)
    return ServedCatalogue(Catalogue(pa.table(columns), ("title",)), codes, SIZES, 10, SETTINGS, ARRAYS, quantize)


@pytest.mark.parametrize("at_once", [1, 3, len(CHANGES)])
def test_changes_have_the_same_result_however_many_are_made_at_once(at_once):
    served, codes, eligible = catalogue(), [], {0, 1}
    for start in range(0, len(CHANGES), at_once):
        grown = served.changed(CHANGES[start : start + at_once])
        served.use(grown)
        codes += grown.codes.tolist()
        eligible = (eligible | set(grown.add.tolist())) - set(grown.remove.tolist())
    rows = {row["item_id"]: row for row in served.catalogue.table.to_pylist()}
    assert list(rows) == ["a", "b", "new", "other"]
    assert rows["a"]["title"] == "again" and rows["a"]["plays"] == 7 and str(rows["a"]["day"]) == "2020-10-03"
    assert rows["b"]["title"] == "back" and str(rows["b"]["day"]) == "2024-02-29"
    assert rows["new"]["title"] is None and rows["new"]["plays"] == 3
    assert codes == [[0, 1, 0], [0, 1, 1]]  # of "calm night", in the order in which the items came
    assert served.removed == {3} and eligible == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (ItemChange("change", "a", {"color": "red"}), "color"),
        (ItemChange("change", "a", {"plays": 10**400}), "plays"),
        (ItemChange("change", "a", {"title": [[[]]]}), "title"),
        (ItemChange("add", "new", {"plays": "many"}), "plays"),
        (ItemChange("add", "new", {}, [1.0]), "finite"),
        (ItemChange("add", "new", {}, [10**400, 1, 2, 3]), "finite"),
    ],
)
def test_a_change_that_is_never_taken_is_refused_before_it_is_made(change, named):
    served = catalogue()
    with pytest.raises(CatalogueError, match=named):
        served.check(change)
    with pytest.raises(CatalogueError, match=named):
        served.changed([change])
    for good in CHANGES:
        served.check(good)
    assert len(served.catalogue) == 2


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"plays": "many"}, "many"), ({"day": "soon"}, "soon"), ({"color": "red"}, "color"), ({"title": 3}, "title")],
)
def test_a_cell_that_does_not_suit_its_column_is_named_among_others(fields, named):
    others = [ItemChange("change", "a", {"plays": 1, "day": "2024-01-01", "title": "x"}) for _ in range(3)]
    with pytest.raises(CatalogueError, match=named) as error:
        catalogue().changed([*others, ItemChange("change", "b", fields), *others])
    assert "'b'" in str(error.value)
