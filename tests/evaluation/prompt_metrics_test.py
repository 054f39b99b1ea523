import dataclasses
import json

import numpy as np
import pytest

from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.evaluation import prompt_metrics
from genrec.evaluation.prompt_metrics import Steering
from genrec.serving.engine import Recommendations
from genrec.serving.prompt_rules import PromptRules


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


@pytest.fixture(scope="module")
def measured(listener):
    prompt_metrics.evaluate(listener, "test", "best", 12, 20, [0.0, 1.0, 2.0], 9, show=lambda text: None)
    return json.loads((listener / "prompts" / "test.json").read_text()), listener / "prompts"


def test_everything_is_measured_and_drawn(measured):
    figures, folder = measured
    assert figures["users"] == 12 and set(figures["shares"]) >= {"media_type", "mood"}
    for name, of_column in figures["shares"].items():
        assert all(0 <= share <= 1 for share in of_column.values()), name
    # What the prompt makes a rule is kept to the letter.
    assert figures["shares"]["media_type"]["prompted, by rule"] == 1
    curve, fitting = figures[prompt_metrics.CURVE]["media_type"], figures[prompt_metrics.FITTING]
    assert [point[0] for point in curve] == [0, 1, 2]
    # At strength 0 a prompt changes nothing, at 1 it is what the shares were measured with.
    assert curve[0][1] == pytest.approx(figures["shares"]["media_type"]["unprompted"])
    assert curve[1][1] == pytest.approx(figures["shares"]["media_type"]["prompted"])
    assert curve[0][2] == fitting[0][1] == pytest.approx(figures["recall without a prompt"])
    assert figures["blocked or disliked"] == {"lists": 12, "items": 120, "violations": 0}
    assert 0 <= figures["texts"]["title: token accuracy"] <= 1
    picture = (folder / "guidance.svg").read_text()
    assert picture.startswith("<svg xmlns=") and "media_type" in picture and picture.rstrip().endswith("</svg>")
    assert "held-out words" in (folder / "test.txt").read_text()


def test_prompts_are_held_out_and_name_their_value(loaded):
    asked = Steering(loaded, "test", 10, 20)
    values = asked.drawn_values("media_type")
    rules = PromptRules(("media_type",), {"media_type": "kind"}, loaded.dataset.catalogue)
    for less, operator in ((False, "="), (True, "!=")):
        for value, request in zip(values, asked.prompted("media_type", values, less), strict=True):
            (condition,) = rules.conditions(request.prompt)
            assert (condition.operator, condition.values) == (operator, (value,))


def test_shares_and_recall_are_counted_by_hand(loaded):
    asked = Steering(loaded, "test", 2, 20)
    cells = asked.prompts.values["media_type"]
    lists = [Recommendations(np.arange(10), np.zeros(10), 0), Recommendations(np.arange(5, 15), np.zeros(10), 0)]
    expected = np.mean([[cells[i] == "music" for i in one.items] for one in lists])
    assert asked.share("media_type", ["music", "music"], lists) == pytest.approx(expected)
    requests = [dataclasses.replace(r, target=n) for r, n in zip(asked.requests, (9, 3), strict=True)]
    assert prompt_metrics.recall(requests, lists) == 0.5 and prompt_metrics.recall(requests, lists, 3) == 0


def test_a_model_that_knows_no_words_says_so(loaded):
    with pytest.raises(DataError, match="knows no words"):
        Steering(dataclasses.replace(loaded, record=dataclasses.replace(loaded.record, prompts={})), "test", 3, 20)


def test_of_titles_that_are_too_long_to_be_read_the_beginning_is_asked_for(loaded):
    asked = Steering(loaded, "test", 2, 20)
    short = asked.titles(4)
    asked.prompts.titles = [title + "  and so on" * 100 for title in asked.prompts.titles]
    assert asked.titles(4).keys() == short.keys()
