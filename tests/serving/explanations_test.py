import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.decoding import loaded_model
from genrec.decoding.retrieval import Retriever
from genrec.serving.engine import Engine, Options
from genrec.serving.explanations import LEAST, STATED, Explainer, PrefixWords
from genrec.serving.profile_entries import LEARNED, Entry
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

ALL_ITEMS = 300  # more than the catalogue has


@pytest.fixture(scope="module")
def engine(listener):
    return Engine(loaded_model.load(listener), Options(top=ALL_ITEMS, beams=ALL_ITEMS), rules=False)


@pytest.fixture(scope="module")
def request_of_all(engine):
    """A history longer than max_history with repeats, all features, a prompt and a profile that denies no item."""
    dataset = engine.loaded.dataset
    sequence = next(r for r in dataset.split("test").read(range(20)) if len(r.items) > 9)
    profile = Profile(sequence.user_id).with_text("likes x2:genre=classical").with_entry("less_of", "mood=dark")
    context = {"time_of_day": "8"}
    return Request(sequence.user_id, sequence.items[:9], None, context, "something calm", profile)


@pytest.fixture(scope="module")
def search(engine):
    """Returns the items of a search over the model's logits, best first, with their scores, in place of its losses."""
    loaded = engine.loaded
    retriever = Retriever.of_table(loaded.graphdef, loaded.table, ALL_ITEMS)

    def of(request, withheld=frozenset()):
        context = engine.context_of(request)._replace(withheld=withheld)
        found = retriever(loaded.params, engine.encode([request], [context]))
        return dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))

    return of


@pytest.fixture(scope="module")
def scores(search):
    def of(request, items):
        found = search(request)
        return np.array([found[item] for item in items])

    return of


def test_changes_equal_removal_by_hand(engine, scores, request_of_all):
    request, explainer = request_of_all, Explainer(engine)
    items = engine.recommend([request])[0].items[[0, 3, 50]].tolist()
    base = scores(request, items)
    found = explainer.explain(request, items)
    explained = [{one.name: one.change for one in of_item.reasons} for of_item in found]
    titles = engine.catalogue.titles
    less_of = request.profile.entries[1]
    by_hand = {
        "prompt: something calm": dataclasses.replace(request, prompt=""),
        "profile: likes genre=classical": dataclasses.replace(request, profile=Profile(request.name, (less_of,))),
        "time_of_day: 6 to 9": dataclasses.replace(request, context_overrides={"time_of_day": ""}),
    }
    recent = request.history[:-7:-1].tolist()
    for item in recent:
        count = request.history.tolist().count(item)
        times = "" if count == 1 else f"{count} times, last "
        name = f"played {times}{recent.index(item) + 1} ago: {titles[item]}"
        by_hand[name] = dataclasses.replace(request, history=request.history[request.history != item])
    country = next(name for name in explained[0] if name.startswith("country: "))
    by_hand[country] = dataclasses.replace(request, context_overrides={**request.context_overrides, "country": ""})
    for name, without in by_hand.items():
        expected = base - scores(without, items)
        # Differences of log-probabilities of tens, in float32 by two ways: one pass, and a search step by step.
        np.testing.assert_allclose([reasons[name] for reasons in explained], expected, rtol=1e-3, atol=3e-3)
    assert any(" times, last " in name for name in by_hand)
    assert {"soft tokens: vector", "soft tokens: summary", "profile: less_of mood=dark"} <= explained[0].keys()
    assert len(explained[0]) == len(set(recent)) + 3 + 2 + 1 + 2
    assert any(abs(change) > 1e-3 for change in explained[0].values())


def test_the_joint_change_removes_everything_at_once(engine, search, request_of_all):
    request, explainer = request_of_all, Explainer(engine)
    item = int(engine.recommend([request])[0].items[0])
    found = explainer.explain(request, [item])[0]
    nothing = search(Request(request.name, np.zeros(0, np.int32)), frozenset({"all"}))
    np.testing.assert_allclose(found.joint, search(request)[item] - nothing[item], rtol=1e-3, atol=3e-3)
    np.testing.assert_allclose(found.total, sum(one.change for one in found.reasons))
    text = explainer.as_text(request, [item])
    assert f"{found.joint:+.2f}" in text and f"{found.total:+.2f}" in text
    assert f"{abs(found.total - found.joint):.2f} {'more' if found.total > found.joint else 'less'}" in text


def test_without_a_stated_reason_the_item_falls(engine, search, request_of_all):
    """In the search, by score always and by rank nearly always: what else is removed with it may change other items."""
    explainer, falls = Explainer(engine), []
    for sequence in engine.loaded.dataset.split("test").read(range(4)):
        request = dataclasses.replace(request_of_all, name=sequence.user_id, history=sequence.items)
        before, without = search(request), {one.name: one for one in explainer.ablations(request)}
        items, after = list(before)[:5], {}
        for rank, (item, found) in enumerate(zip(items, explainer.explain(request, items), strict=True)):
            assert len(found.stated) <= STATED and all(one.words in found.in_words() for one in found.stated)
            for name in [one.name for one in found.stated]:
                if name not in after:
                    after[name] = search(without[name].request, without[name].withheld)
                assert after[name][item] < before[item] - LEAST / 2
                falls.append(list(after[name]).index(item) > rank)
    assert len(falls) > 20 and np.mean(falls) > 0.5  # others fall too, by reasons that they share


def words_of(engine, request, name):
    """Returns the words of the ablation whose name begins so."""
    return next(one.words for one in Explainer(engine).ablations(request) if one.name.startswith(name))


def test_words_count_what_was_chosen_and_when(engine):
    title, day = engine.catalogue.titles, 86_400
    history, ages = np.array([3, 4, 3, 5, 3]), day * np.array([400, 9, 6, 2, 0.5])
    request = Request("u", history, ages=ages)
    assert (
        words_of(engine, request, "played 3 times, last 1 ago")
        == f'you played "{title[3]}" 3 times, once in the last day'
    )
    assert words_of(engine, request, "played 2 ago") == f'you played "{title[5]}" in the last week'
    assert words_of(engine, request, "played 4 ago") == f'you played "{title[4]}" in the last month'
    assert words_of(engine, request.with_event(4), "played 2 times").endswith("twice, once in the last day")
    older = dataclasses.replace(request, ages=ages + 400 * day)
    for unknown in (older, dataclasses.replace(request, ages=None), dataclasses.replace(request, ages=ages[:4])):
        assert words_of(engine, unknown, "played 3 times") == f'you played "{title[3]}" 3 times'


def test_words_join_the_lines_of_a_prompt(engine):
    request = Request("u", np.array([3]), prompt="something calm\nno jazz")
    assert words_of(engine, request, "prompt: something calm, no jazz") == 'you asked for "something calm, no jazz"'


@pytest.mark.parametrize(
    ("prompt", "claimed"),
    [
        ("something {mood}", True),
        ("something {mood}, no podcasts", True),
        ("{mood} please. I don't want metal", True),
        ("something {mood} but nothing by X", True),
        ("nothing {mood}", False),
        ("no jazz, {mood}", False),
        ("I don't want {mood} things", False),
        ("{mood} things are boring", False),
        ("{mood}, no thanks", False),
        ("{mood}? nah", False),
        ("down with {mood} things", False),
        ("something {mood}ish", False),
    ],
)
def test_words_claim_a_match_only_if_the_prompt_asks_for_it(engine, prompt, claimed):
    item = 7
    mood = engine.catalogue.column("mood")[item].as_py()
    explainer, request = Explainer(engine), Request("u", np.array([3, 4]), prompt=prompt.format(mood=mood))
    reasons = explainer.explain(request, [item])[0].reasons
    words = next(one.words for one in reasons if one.name.startswith("prompt"))
    assert words.startswith(f'you asked for "{request.prompt}"') and (f'matches "{mood}"' in words) == claimed


def test_words_of_a_profile_tell_what_was_learned_and_promise_nothing_of_denied_items(engine):
    genre = engine.catalogue.column("genre")[7].as_py()
    learned = Entry("likes", f"genre={genre}", "2024-01-01", source=LEARNED)
    profile = Profile("u", (learned,)).with_entry("less_of", "mood=dark").with_entry("blocked", "genre=jazz")
    request = Request("u", np.array([3, 4]), profile=profile)
    reasons = {one.name: one.words for one in Explainer(engine).explain(request, [7])[0].reasons}
    assert reasons[f"profile: likes genre={genre}"] == (
        f"your profile, learned from your history, likes genre={genre} (this matches)"
    )
    assert reasons["profile: less_of mood=dark"] == "your profile asks for less of mood=dark"
    assert reasons["profile: blocked genre=jazz"] == ""
    assert "of your profile" in reasons["soft tokens: summary"]


def test_an_expired_entry_is_no_reason(engine):
    expired = Entry("likes", "genre=jazz", "2024-01-01", "2024-01-08")
    request = Request("u", np.array([3]), profile=Profile("u", (expired,)))
    assert not any(one.name.startswith("profile") for one in Explainer(engine).ablations(request))
    assert engine.context_of(request).prompt == "" and engine.context_of(request).offset is None


def test_the_strongest_reason_comes_first(engine, request_of_all):
    explainer = Explainer(engine)
    item = int(engine.recommend([request_of_all])[0].items[0])
    reasons = explainer.explain(request_of_all, [item])[0].reasons
    assert [abs(r.change) for r in reasons] == sorted((abs(r.change) for r in reasons), reverse=True)
    text = explainer.as_text(request_of_all, [item], reasons=2)
    assert engine.catalogue.titles[item] in text and reasons[0].name in text
    assert sum(line.strip()[0] in "+-" for line in text.splitlines()) <= 2 + STATED + 1
    assert explainer.explain(request_of_all, []) == []


def test_a_request_without_inputs_has_no_reasons(engine):
    explainer = Explainer(engine)
    assert explainer.explain(Request("stranger", np.zeros(0, np.int32)), [3])[0].reasons == []


def test_the_words_of_a_prefix_distinguish_its_items():
    table = pa.table(
        {"item_id": list("abcd"), "title": ["calm jazz one", "calm jazz two", "calm metal three", "calm metal four"]}
    )
    words = PrefixWords(np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1]]), Catalogue(table, ("title",)))
    assert words.of_prefix([0]) == ["jazz", "calm"] and words.of_prefix([1]) == ["metal", "calm"]
    assert words.of_item(0) == "jazz calm > one"
