import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.decoding import loaded_model
from genrec.decoding.retrieval import Retriever
from genrec.serving.engine import Engine, Options
from genrec.serving.explanations import Explainer, PrefixWords
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

ALL_ITEMS = 300  # more than the catalogue has


@pytest.fixture(scope="module")
def engine(listener):
    return Engine(loaded_model.load(listener), Options(top=ALL_ITEMS, beams=ALL_ITEMS), rules=False)


@pytest.fixture(scope="module")
def request_of_all(engine):
    """A history longer than max_history, all features, a prompt and a profile that denies no item."""
    dataset = engine.loaded.dataset
    sequence = next(r for r in dataset.split("test").read(range(20)) if len(r.items) > 9)
    profile = Profile(sequence.user_id).with_entry("likes", "genre=classical").with_entry("less_of", "mood=dark")
    return Request(sequence.user_id, sequence.items[:9], None, {"time_of_day": "8"}, "something calm", profile)


@pytest.fixture(scope="module")
def scores(engine):
    """Returns scores of items by a search over the model's logits, in place of its losses."""
    loaded = engine.loaded
    retriever = Retriever.of_table(loaded.graphdef, loaded.table, ALL_ITEMS)

    def of(request, items):
        found = retriever(loaded.params, engine.encode([request], [engine.context_of(request)]))
        of_item = dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))
        return np.array([of_item[item] for item in items])

    return of


def test_changes_equal_removal_by_hand(engine, scores, request_of_all):
    request, explainer = request_of_all, Explainer(engine)
    items = engine.recommend([request])[0].items[[0, 3, 50]].tolist()
    base = scores(request, items)
    explained = [dict(reasons) for reasons in explainer.explain(request, items)]
    titles = engine.catalogue.titles
    less_of = request.profile.entries[1]
    by_hand = {
        "prompt: something calm": dataclasses.replace(request, prompt=""),
        "profile: likes genre=classical": dataclasses.replace(request, profile=Profile(request.name, (less_of,))),
        "time_of_day: 6 to 9": dataclasses.replace(request, context_overrides={"time_of_day": ""}),
    }
    for back in range(6):
        place = len(request.history) - 1 - back
        shorter = np.delete(request.history, place)
        by_hand[f"heard {back + 1} ago: {titles[request.history[place]]}"] = dataclasses.replace(
            request, history=shorter
        )
    country = next(name for name in explained[0] if name.startswith("country: "))
    by_hand[country] = dataclasses.replace(request, context_overrides={**request.context_overrides, "country": ""})
    for name, without in by_hand.items():
        expected = base - scores(without, items)
        # Differences of log-probabilities of tens, in float32 by two ways: one pass, and a search step by step.
        np.testing.assert_allclose([reasons[name] for reasons in explained], expected, rtol=1e-3, atol=3e-3)
    assert {"soft tokens: vector", "soft tokens: summary", "profile: less_of mood=dark"} <= explained[0].keys()
    assert len(explained[0]) == 6 + 3 + 2 + 1 + 2
    assert any(abs(change) > 1e-3 for change in explained[0].values())


def test_the_strongest_reason_comes_first(engine, request_of_all):
    explainer = Explainer(engine)
    item = int(engine.recommend([request_of_all])[0].items[0])
    reasons = explainer.explain(request_of_all, [item])[0]
    assert [abs(r.change) for r in reasons] == sorted((abs(r.change) for r in reasons), reverse=True)
    text = explainer.as_text(request_of_all, [item], reasons=2)
    assert engine.catalogue.titles[item] in text and reasons[0].name in text and text.count("\n") == 2
    assert explainer.explain(request_of_all, []) == []


def test_a_request_without_inputs_has_no_reasons(engine):
    explainer = Explainer(engine)
    assert explainer.explain(Request("stranger", np.zeros(0, np.int32)), [3]) == [[]]


def test_the_words_of_a_prefix_distinguish_its_items():
    table = pa.table(
        {"item_id": list("abcd"), "title": ["calm jazz one", "calm jazz two", "calm metal three", "calm metal four"]}
    )
    words = PrefixWords(np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1]]), Catalogue(table, ("title",)))
    assert words.of_prefix([0]) == ["jazz", "calm"] and words.of_prefix([1]) == ["metal", "calm"]
    assert words.of_item(0) == "jazz calm > one"
