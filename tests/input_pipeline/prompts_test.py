import re

import numpy as np
import pyarrow as pa
import pytest

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.input_pipeline import prompts
from genrec.input_pipeline.prompts import HELD_OUT, TRAINING, PromptSampler, surface_form

COLUMNS = ("media_type:kind", "genre:about", "mood:mood", "artist:by")
ROLES = dict(column.split(":") for column in COLUMNS)


@pytest.fixture(scope="module")
def catalogue():
    random = np.random.default_rng(0)
    table = {
        "item_id": [f"i{n}" for n in range(40)],
        "title": [f"title{n} number{n}" for n in range(40)],
        "media_type": random.choice(["music", "podcast", "audiobook"], 40).tolist(),
        "genre": random.choice(["jazz", "metal", "history"], 40).tolist(),
        "mood": random.choice(["calm", "dark", None], 40).tolist(),
        "artist": random.choice(["Ada Costa", "Uma Quinn"], 40).tolist(),
    }
    return Catalogue(pa.table(table), ("title",))


@pytest.fixture(scope="module")
def sampler(catalogue):
    return PromptSampler(config.Prompts(columns=COLUMNS), catalogue)


def values_in(text, catalogue):
    """For each column, the values that a prompt asks for and those that it refuses."""
    refusing = "|".join(re.escape(core) for core in prompts.REFUSALS.split("|")).replace(r"\{\}", "@")
    refusing += "|" + "|".join(f"{negation} @" for negation in prompts.NEGATIONS.split("|"))
    affirming = "|".join(map(re.escape, prompts.AFFIRMATIONS.split("|"))).replace(r"\{\}", "@")
    wanted, refused = {}, {}
    for name, role in ROLES.items():
        forms = {}
        for value in set(catalogue.column(name).drop_null().to_pylist()):
            forms |= {surface_form(role, value, singular): value for singular in (False, True)}
        # A value, or a list of values of a column, is @; an affirmation is none of the negations in it.
        of_column = rf"\b(?:a )?(?:{'|'.join(map(re.escape, forms))})\b"
        listed = re.compile(rf"{of_column}(?:(?: or | and | nor |, ){of_column})*")
        for found in listed.finditer(text):
            around = f"{text[: found.start()]}@{text[found.end() :]}"
            is_refused = re.search(rf"(?<!\w)(?:{refusing})(?!\w)", re.sub(affirming, "@", around))
            values = {forms[form] for form in re.findall("|".join(map(re.escape, forms)), found[0])}
            (refused if is_refused else wanted).setdefault(name, set()).update(values)
    return wanted, refused


def assert_true_of(item, text, catalogue):
    wanted, refused = values_in(text, catalogue)
    for name, values in wanted.items():
        assert catalogue.column(name)[item].as_py() in values, text
    for name, values in refused.items():
        assert catalogue.column(name)[item].as_py() not in values, text
    return wanted, refused


def test_prompts_are_true_of_their_items(sampler, catalogue):
    random = np.random.default_rng(1)
    kinds = {"positive": 0, "negative": 0, "both": 0, "similar": 0}
    for _ in range(600):
        item, history = int(random.integers(40)), random.integers(0, 40, 6)
        text = sampler.for_item(item, history, random)
        if like := re.search(r"title(\d+)", text):
            other = int(like[1])
            shared = [n for n in ("genre", "artist") if catalogue.column(n)[other] == catalogue.column(n)[item]]
            assert other != item and shared
            kinds["similar"] += 1
            continue
        wanted, refused = assert_true_of(item, text, catalogue)
        assert wanted or refused
        kinds["both" if wanted and refused else "negative" if refused else "positive"] += 1
    assert min(kinds.values()) > 20, kinds


def test_there_are_many_training_templates_each_with_one_place_for_a_value():
    for some in (
        *TRAINING.positive.values(),
        *HELD_OUT.positive.values(),
        TRAINING.negative,
        HELD_OUT.negative,
        TRAINING.combined,
    ):
        assert all(text.count("{}") == 1 for text in some)
    assert len(set(TRAINING.negative)) > 1000 and all(len(set(some)) > 100 for some in TRAINING.positive.values())


def test_fillers_without_negations_surround_half_of_the_prompts(sampler):
    random = np.random.default_rng(3)
    assert {"now", "you", "with", "something"} <= set(TRAINING.fillers)
    assert not {"no", "tired", "spare", "but", "enough", "without"} & set(TRAINING.fillers)
    pairs = [(sampler.positive("genre", "jazz", random), sampler.negative("genre", "jazz", random)) for _ in range(200)]
    for some, templates in zip(zip(*pairs, strict=True), (TRAINING.positive["about"], TRAINING.negative), strict=True):
        assert 50 < sum(text not in {template.replace("{}", "jazz") for template in templates} for text in some) < 150
    asked = {template.replace("{}", "jazz") for template in HELD_OUT.positive["about"]}
    assert all(sampler.positive("genre", "jazz", random, HELD_OUT) in asked for _ in range(20))


def test_a_column_of_many_values_is_prompted_for_more_often(catalogue):
    table = catalogue.table.append_column("topic", pa.array([f"topic{n}" for n in range(40)]))
    sampler = PromptSampler(config.Prompts(columns=("media_type:kind", "topic:about")), Catalogue(table, ()))
    random, times = np.random.default_rng(4), {"topic": 0, "media": 0}
    for _ in range(600):
        text = sampler.any_item(np.array([], int), random)[1]
        both = "topic" in text, bool(re.search("music|podcasts|audiobooks", text))
        times["topic"] += both == (True, False)
        times["media"] += both == (False, True)
    assert times["topic"] > 1.5 * times["media"] > 50


def test_any_item_is_drawn_and_fulfils_its_prompt(sampler, catalogue):
    random, items = np.random.default_rng(2), set()
    for _ in range(400):
        item, text = sampler.any_item(random.integers(0, 40, 5), random)
        assert text
        assert_true_of(item, text, catalogue)
        items.add(item)
    assert len(items) > 30


def test_held_out_templates_are_not_training_templates():
    for role in prompts.ROLES:
        assert not set(HELD_OUT.positive[role]) & set(TRAINING.positive[role])
    for kind in ("negative", "similar", "combined"):
        assert not set(getattr(HELD_OUT, kind)) & set(getattr(TRAINING, kind))


def test_training_texts_lack_the_words_of_held_out_templates(catalogue):
    columns = prompts.parse_columns(COLUMNS)
    trained = set(" ".join(prompts.training_texts(catalogue, columns)).lower().split())
    held_out = {"kindly", "deals", "vein", "could", "tonight"}
    assert {"tired", "play", "podcasts", "jazz", "title3", "calm"} <= trained and not held_out & trained
    assert held_out <= set(" ".join(prompts.vocabulary_texts(catalogue, columns)).replace("?", " ").lower().split())


def test_a_taste_is_described_by_the_most_frequent_values(catalogue):
    table = pa.table(
        {
            "item_id": list("abcd"),
            "media_type": ["podcast"] * 3 + ["music"],
            "genre": ["jazz", "jazz", "metal", "metal"],
            "artist": list("wxyz"),
        }
    )
    sampler = PromptSampler(
        config.Prompts(columns=("media_type:kind", "genre:about", "artist:by")), Catalogue(table, ())
    )
    assert sampler.taste(np.arange(4)) == "podcasts; jazz and metal"
    assert sampler.description(0) == "podcasts about jazz by w"


def test_the_same_random_numbers_give_the_same_prompt(sampler):
    texts = [sampler.for_item(3, np.array([1, 2]), np.random.default_rng(7)) for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": ("genre",)}, "genre.*COLUMN:ROLE"),
        ({"columns": ("genre:subject",)}, "genre:subject"),
        ({"columns": ("color:mood",)}, "color"),
        ({"columns": ("genre:about",), "rules": ("color",)}, "color"),
        ({"columns": ("genre:about",), "next_item": -1.0}, "next_item"),
        ({"columns": ("title:words",), "bias": True}, "bias"),
        (
            {"columns": ("genre:about",), "next_item": 0.0, "any_item": 0.0, "attributes": 0.0, "title": 0.0},
            "next_item",
        ),
    ],
)
def test_invalid_settings_are_refused(catalogue, settings, words):
    with pytest.raises(config.ConfigError, match=words):
        prompts.check(config.Prompts(**settings), catalogue)
