import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.decoding import loaded_model
from genrec.decoding.retrieval import Retriever
from genrec.serving.engine import Options, Search
from genrec.serving.explanations import Explainer, PrefixWords
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

EVERY = 300  # items in a list: all of the catalogue


@pytest.fixture(scope="module")
def search(listener):
    return Search(loaded_model.load(listener), Options(top=EVERY, beams=EVERY), rules=False)


@pytest.fixture(scope="module")
def request_of_all(search):
    """A history beyond the window, everything known, a prompt and a profile that forbids nothing of the list."""
    dataset = search.loaded.dataset
    record = next(r for r in dataset.split("test").read(range(20)) if len(r.items) > 9)
    profile = Profile(record.user_id).with_entry("likes", "genre=jazz").with_entry("less_of", "mood=dark")
    return Request(record.user_id, record.items[:9], None, {"time_of_day": "8"}, "something calm", profile)


@pytest.fixture(scope="module")
def scores(search):
    """Gives scores of items in the list of a request: by a search over the model's own logits."""
    loaded = search.loaded
    retriever = Retriever.over(loaded.graphdef, loaded.table, EVERY)

    def of(request, items):
        found = retriever(loaded.params, search.read([request], [search.context_of(request)]))
        of_item = dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))
        return np.array([of_item[item] for item in items])

    return of


def test_changes_equal_removal_by_hand(search, scores, request_of_all):
    request, explainer = request_of_all, Explainer(search)
    items = search([request])[0].items[[0, 3, 50]].tolist()
    base = scores(request, items)
    explained = [dict(reasons) for reasons in explainer.explain(request, items)]
    titles = search.catalogue.titles
    less_of = request.profile.entries[1]
    by_hand = {
        "prompt: something calm": dataclasses.replace(request, prompt=""),
        "profile: likes genre=jazz": dataclasses.replace(request, profile=Profile(request.name, (less_of,))),
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


def test_the_strongest_reason_comes_first_and_people_can_read_it(search, request_of_all):
    explainer = Explainer(search)
    item = int(search([request_of_all])[0].items[0])
    reasons = explainer.explain(request_of_all, [item])[0]
    assert [abs(r.change) for r in reasons] == sorted((abs(r.change) for r in reasons), reverse=True)
    text = explainer.readable(request_of_all, [item], reasons=2)
    assert search.catalogue.titles[item] in text and reasons[0].part in text and text.count("\n") == 2
    assert explainer.explain(request_of_all, []) == []


def test_a_long_profile_is_read_from_its_end(search):
    profile = Profile("u")
    for number in range(60):
        profile = profile.with_entry("likes", f"item={search.catalogue.item_ids[number]}")
    told = search.context_of(Request("u", np.array([1]), prompt="something calm", profile=profile))
    titles = search.catalogue.titles
    assert (
        told.prompt.endswith(f"like {titles[58]}, like {titles[59]}, something calm") and titles[0] not in told.prompt
    )
    assert len(search.loaded.tokenizer.prompt(told.prompt)) <= search.loaded.tokenizer.longest_served_prompt


def test_nothing_known_has_no_reasons(search):
    explainer = Explainer(search)
    assert explainer.explain(Request("stranger", np.zeros(0, np.int32)), [3]) == [[]]


def test_a_prefix_is_told_by_words_that_its_items_share_and_others_do_not():
    table = pa.table(
        {"item_id": list("abcd"), "title": ["calm jazz one", "calm jazz two", "calm metal three", "calm metal four"]}
    )
    words = PrefixWords(np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1]]), Catalogue(table, ("title",)))
    assert words.of_prefix([0]) == ["jazz", "calm"] and words.of_prefix([1]) == ["metal", "calm"]
    assert words.of_item(0) == "jazz calm > one"
