"""Metrics of prompts on a small model that was trained with prompts."""

import dataclasses
import json

import numpy as np
import pytest
from forked_scripts import Script

from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.evaluation import prompt_metrics
from genrec.evaluation.paraphrases import Paraphrase
from genrec.evaluation.prompt_metrics import PromptEvaluator
from genrec.serving.engine import Recommendations
from genrec.serving.prompt_rules import PromptRules


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


@pytest.fixture(scope="module")
def measured(listener, tmp_path_factory):
    flags = f"--workdir={listener}", "--users=12", "--beams=20", "--strengths=0,1,2", "--items=9"
    script = Script(tmp_path_factory.mktemp("logs"), "tools/evaluate_prompts.py", *flags)
    assert script.wait() == 0 and "violations: 0" in script.output, script.errors[-3000:]
    return json.loads((listener / "prompts" / "test.json").read_text()), listener / "prompts"


def test_everything_is_measured_and_drawn(measured):
    figures, folder = measured
    assert figures["users"] == 12 and set(figures["shares"]) >= {"media_type", "mood"}
    for name, of_column in figures["shares"].items():
        assert all(0 <= share <= 1 for share in of_column.values()), name
    # A prompt that acts as a rule holds for every item.
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


def test_phrases_are_counted_by_what_they_ask_for(loaded):
    evaluator = PromptEvaluator(loaded, "test", 6, 20)
    unprompted = evaluator.recommend(evaluator.requests)
    phrases = [Paraphrase("some {media_type}"), Paraphrase("{media_type} for {artist} and {genre} alike")]
    figures, by_phrase = evaluator.phrase_shares(phrases, unprompted)
    # No artist with items enough to fill a list has two genres.
    assert figures["lists"] == 3 and set(by_phrase) == {"some {media_type}"}
    assert by_phrase["some {media_type}"] == pytest.approx(figures["prompted"])
    assert evaluator.phrase_shares(phrases[1:], unprompted) == ({"lists": 0}, {})
    refused, _ = evaluator.phrase_shares([Paraphrase("stop {!media_type}")], unprompted)
    commonest = evaluator.most_frequent("media_type", unprompted)
    assert refused["unprompted"] == pytest.approx(evaluator.share("media_type", commonest, unprompted))
    assert set(refused) == {"lists", "unprompted", "prompted", "and negative prompt"}


def test_prompts_are_held_out_and_name_their_value(loaded):
    evaluator = PromptEvaluator(loaded, "test", 10, 20)
    values = evaluator.sample_values("media_type")
    rules = PromptRules(("media_type",), {"media_type": "kind"}, loaded.dataset.catalogue)
    for less, operator in ((False, "="), (True, "!=")):
        for value, request in zip(values, evaluator.with_prompts("media_type", values, less), strict=True):
            (condition,) = rules.conditions(request.prompt)
            assert (condition.operator, condition.values) == (operator, (value,))


def test_shares_and_recall_are_counted_by_hand(loaded):
    evaluator = PromptEvaluator(loaded, "test", 2, 20)
    cells = evaluator.prompts.values["media_type"]
    lists = [Recommendations(np.arange(10), np.zeros(10), 0), Recommendations(np.arange(5, 15), np.zeros(10), 0)]
    expected = np.mean([["music" in cells[i] for i in one.items] for one in lists])
    assert evaluator.share("media_type", ["music", "music"], lists) == pytest.approx(expected)
    requests = [dataclasses.replace(r, target=n) for r, n in zip(evaluator.requests, (9, 3), strict=True)]
    assert prompt_metrics.recall(requests, lists) == 0.5 and prompt_metrics.recall(requests, lists, 3) == 0


@pytest.mark.parametrize("exclude_history", [False, True])
def test_lists_have_items_of_the_history_unless_they_are_excluded(loaded, exclude_history):
    evaluator = PromptEvaluator(loaded, "test", 12, 50, exclude_history)
    lists = evaluator.recommend(evaluator.requests)
    repeated = [np.isin(one.items, of.history).any() for one, of in zip(lists, evaluator.requests, strict=True)]
    assert any(repeated) != exclude_history and all(len(one.items) == 10 for one in lists)


def test_a_model_without_prompts_is_refused(loaded):
    with pytest.raises(DataError, match="prompts.columns"):
        PromptEvaluator(
            dataclasses.replace(loaded, record=dataclasses.replace(loaded.record, prompts={})), "test", 3, 20
        )


def test_titles_longer_than_the_longest_prompt_are_cut(loaded):
    evaluator = PromptEvaluator(loaded, "test", 2, 20)
    short = evaluator.title_recall(4)
    evaluator.prompts.titles = [title + "  and so on" * 100 for title in evaluator.prompts.titles]
    assert evaluator.title_recall(4).keys() == short.keys()
