"""Random profiles and prompts through the filters and the search, with what they deny decided item by item."""

import datetime

import numpy as np
import pytest

from genrec import config
from genrec.decoding import loaded_model
from genrec.evaluation import profile_checks
from genrec.input_pipeline.prompts import PromptSampler
from genrec.ranking import item_knn, popular, scoring
from genrec.ranking.multi_stage import MultiStageRecommender
from genrec.serving.engine import Engine, Options, Recommendations
from genrec.serving.profiles import Profile
from genrec.serving.requests import sample_split

PROFILES = 32  # of the same users in each batch: few compilations


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


@pytest.fixture(scope="module")
def measure(loaded):
    """Returns what `profile_checks.measure` finds of random profiles, with a function that recommends."""
    catalogue = loaded.dataset.catalogue
    sampler = PromptSampler(config.Prompts(columns=tuple(loaded.prompts["columns"])), catalogue)
    users = sample_split(loaded.dataset.split("test"), PROFILES)
    return lambda recommend, seed=0: profile_checks.measure(catalogue, sampler, users, recommend, PROFILES, seed)


def test_no_denied_item_is_recommended(loaded, measure):
    """With everything that a search can do: guidance, sampling, limits of groups and without the history."""
    options = Options(
        top=10, beams=20, guidance=1.5, temperature=1, exclude_history=True, max_share=0.4, share_of="media_type"
    )
    engine = Engine(loaded, options, PROFILES, rules=False)
    for seed in range(6):
        found = measure(engine.recommend, seed)
        assert found["violations"] == 0 and found["items"] > 3 * found["lists"]


def test_no_denied_item_is_in_the_lists_of_sources_and_of_all_stages(loaded, measure):
    dataset = loaded.dataset
    popularity = popular.popularity(dataset)
    sources = {
        "popular": popular.MostPopular(popularity),
        "kNN": item_knn.ItemKnn.learn(dataset, config.ItemKnn()),
    }
    rules = scoring.Rules(config.FinalScoring(new_items_share=0.5), dataset.catalogue, popularity)
    stages = MultiStageRecommender(sources, None, rules, dict.fromkeys(sources, 1.0), 30, len(dataset.catalogue))
    for source in (*sources.values(), stages):

        def recommend(requests, source=source):
            today = datetime.date.today()
            denied = [one.profile.holding(today).denied(dataset.catalogue) for one in requests]
            exclude = [np.array(sorted(rows), np.int64) for rows in denied]
            names, histories = [one.name for one in requests], [one.history for one in requests]
            items = source.recommend(names, histories, 10, exclude).items
            return [Recommendations(row[row >= 0], row[row >= 0], 0) for row in items]

        found = measure(recommend)
        assert found["violations"] == 0 and found["items"] > 3 * found["lists"]


def test_lists_that_ignore_profiles_have_items_that_the_check_finds(loaded, measure):
    random, items = np.random.default_rng(0), len(loaded.dataset.catalogue)

    def recommend(requests):
        rows = [random.permutation(items)[:10] for _ in requests]
        return [Recommendations(row, np.zeros(10), 0) for row in rows]

    found = measure(recommend)
    assert found["items"] == 10 * PROFILES and found["violations"] > PROFILES


def test_a_profile_denies_what_all_parts_of_an_entry_in_force_match(loaded):
    catalogue, today = loaded.dataset.catalogue, datetime.date(2024, 1, 31)
    oracle = profile_checks.DenialOracle(catalogue, profile_checks.columns_of(catalogue))
    assert {"media_type", "genre", "mood", "artist", "explicit", "countries"} <= set(oracle.columns)
    assert not {"title", "description"} & set(oracle.columns)
    row = catalogue.table.slice(3, 1).to_pylist()[0]
    both = f"genre={row['genre']} & mood={row['mood']}"
    for text, denied in (
        (f"blocked:{both}", True),
        (f"blocked:{both} & artist=nobody", False),
        (f"blocked:artist=nobody|{row['artist']}", True),
        (f"likes:{both}", False),
        (f"dislikes:item={row['item_id']}", True),
    ):
        assert oracle.denies(Profile("u").with_text(text), 3, today) == denied
    expired = Profile("u").with_text(f"blocked for 1 day:{both}")
    assert not oracle.denies(expired, 3, datetime.date.today() + datetime.timedelta(2))
