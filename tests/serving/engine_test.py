"""The engine with an untrained model that has no context; with prompts see the test of guidance."""

import collections

import numpy as np
import pytest

from genrec import config
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding import loaded_model
from genrec.serving import requests as user_requests
from genrec.serving.engine import Engine, Options
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
)


@pytest.fixture(scope="module")
def loaded(untrained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("engine")
    untrained(workdir, EXPERIMENT)
    return loaded_model.load(workdir)


@pytest.fixture(scope="module")
def three_users(loaded):
    return user_requests.sample_users(loaded.dataset.split("test"), 3)


def test_equal_requests_in_a_batch_get_equal_lists(loaded, three_users):
    given = user_requests.from_items(loaded.dataset.catalogue, loaded.dataset.catalogue.item_ids[5:8])
    requests = [*three_users[:2], *three_users[1::-1], given]
    answers = Engine(loaded, Options(beams=10, top=4), len(requests)).recommend(requests)
    assert [len(answer.items) for answer in answers] == [4] * 5
    np.testing.assert_array_equal(answers[0].items, answers[3].items)


@pytest.mark.parametrize(("condition", "column"), [("color=red", "color"), ("duration_seconds>=long", "duration_sec")])
def test_filters_that_cannot_be_applied_name_the_column(loaded, three_users, condition, column):
    with pytest.raises(DataError, match=column):
        Engine(loaded, Options(), 3).recommend(three_users, Filter.parse([condition]))


def test_filters_and_the_history_leave_the_rest_in_order(loaded, three_users):
    """Against a search that finds everything but the history."""
    catalogue = loaded.dataset.catalogue
    media = catalogue.column("media_type").to_pylist()
    conditions = Filter.parse([f"media_type={media[0]}"])
    item_filter = user_requests.with_allow_deny(conditions, catalogue, None, catalogue.item_ids[:9])
    engine = Engine(loaded, Options(beams=128, top=len(catalogue), exclude_history=True), 3)
    everything, found = (engine.recommend(three_users, one) for one in (EVERYTHING, item_filter))
    for request, answer, all_ in zip(three_users, found, everything, strict=True):
        assert set(all_.items.tolist()) == set(range(len(catalogue))) - set(request.history.tolist())
        assert answer.items.tolist() == [item for item in all_.items.tolist() if item >= 9 and media[item] == media[0]]
        assert answer.certified == len(answer.items)


def test_sampled_and_diverse_lists_respect_the_maximum_share(loaded, three_users):
    catalogue, first_codes = loaded.dataset.catalogue, loaded.semantic_ids.codes[:, 0]
    media = np.array(catalogue.column("media_type").to_pylist())
    for options, groups in [
        (Options(beams=8, top=4, max_share=0.25, temperature=1, top_p=0.9), first_codes),
        (Options(beams=4, top=4, max_share=0.5, share_of="media_type"), media),
    ]:
        for answer in Engine(loaded, options, 3).recommend(three_users):
            most = int(options.max_share * options.top)
            assert len(answer.items) == options.top and answer.certified == 0
            assert max(collections.Counter(groups[answer.items].tolist()).values()) <= most
    with pytest.raises(DataError, match="'color'"):
        Engine(loaded, Options(max_share=0.5, share_of="color"), 3).recommend(three_users)


def test_of_a_long_profile_the_latest_entries_are_read(listener):
    engine = Engine(loaded_model.load(listener), Options())
    profile = Profile("u")
    for number in range(60):
        profile = profile.with_entry("likes", f"item={engine.catalogue.item_ids[number]}")
    prompt = engine.context_of(Request("u", np.array([1]), prompt="something calm", profile=profile)).prompt
    titles = engine.catalogue.titles
    assert prompt.endswith(f"like {titles[58]}, like {titles[59]}, something calm") and titles[0] not in prompt
    assert len(engine.loaded.tokenizer.prompt(prompt)) <= engine.loaded.tokenizer.longest_served_prompt


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top": 0}, "top=0"),
        ({"beams": 0}, "beams=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": 1, "top_p": 0}, "top_p=0"),
        ({"temperature": 1, "top_p": 1.1}, "top_p=1.1"),
        ({"top_p": 0.9}, "temperature"),
        ({"max_share": 0}, "max_share=0"),
        ({"max_share": 1.5}, "max_share=1.5"),
        ({"max_beams": 100, "temperature": 1}, "max_beams"),
        ({"max_beams": 100, "max_share": 0.5}, "max_beams"),
    ],
)
def test_invalid_options_are_an_error(options, message):
    with pytest.raises(config.ConfigError, match=message):
        Options(**options)
