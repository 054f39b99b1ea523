import json

import numpy as np
import pytest

from genrec import printing
from genrec.data.dataset import Dataset
from genrec.serving import output, requests
from genrec.serving.queries import Recommendations


@pytest.fixture(scope="module")
def catalogue(listener):
    return Dataset(listener / "dataset").catalogue


def test_a_table_has_the_titles_of_history_and_recommendations(catalogue):
    request = requests.from_items(catalogue, catalogue.item_ids[5:8])
    text = output.table(request, Recommendations(np.array([9, 3]), np.array([-1.0, -2.0]), 0), catalogue)
    for item in (5, 6, 7, 9, 3):
        assert catalogue.titles[item][:40] in text


@pytest.mark.parametrize("target", [None, 7])
def test_json_has_item_ids_titles_scores_and_certified(catalogue, target):
    request = requests.Request("ü", np.array([4, 2]), target)
    answer = Recommendations(np.array([5, 1]), np.array([-1.123456, -2], np.float32), 1)
    line = output.render(request, answer, catalogue, "json")
    assert "\n" not in line and "ü" in line
    ids, titles = catalogue.item_ids, catalogue.titles
    assert json.loads(line) == {
        "name": "ü",
        "history": [ids[4], ids[2]],
        "target": None if target is None else ids[7],
        "recommended": [
            {"item_id": ids[5], "title": titles[5], "score": -1.12346},
            {"item_id": ids[1], "title": titles[1], "score": -2.0},
        ],
        "certified": 1,
    }
    assert "the first 1 are certified" in output.render(request, answer, catalogue, "table")


def test_titles_and_names_with_controls_are_exact_in_json_and_one_line_in_a_table(catalogue, monkeypatch):
    bad = "a\n\x1b[2J\x9b\u202e\x7fü"
    monkeypatch.setitem(vars(catalogue), "titles", [bad] * len(catalogue))
    request = requests.Request(bad, np.array([4, 2]))
    answer = Recommendations(np.array([5]), np.array([-1.0], np.float32), 0)
    line = output.render(request, answer, catalogue, "json")
    found = json.loads(line)
    assert found["name"] == bad and found["recommended"][0]["title"] == bad and printing.clean(line) == line
    shown = output.table(request, answer, catalogue)
    assert printing.clean(shown) == shown and len(shown.splitlines()) == 4
