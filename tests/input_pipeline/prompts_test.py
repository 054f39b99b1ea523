import re

import numpy as np
import pyarrow as pa
import pytest

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.input_pipeline import prompts
from genrec.input_pipeline.prompts import HELD_OUT, TRAINING, PromptSampler, spoken

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
def maker(catalogue):
    return PromptSampler(config.Prompts(columns=COLUMNS), catalogue)


def said_of(text, catalogue):
    """For each column: values asked for, and values refused, read by other means than templates."""
    refusals = prompts.REFUSALS
    wanted, refused = {}, {}
    for name, role in ROLES.items():
        for value in set(catalogue.column(name).drop_null().to_pylist()):
            for found in re.finditer(rf"\b{re.escape(spoken(role, value))}\b", text):
                is_refused = re.search(rf"(?:{refusals}) $", text[: found.start()])
                (refused if is_refused else wanted).setdefault(name, set()).add(value)
    return wanted, refused


def assert_true_of(item, text, catalogue):
    wanted, refused = said_of(text, catalogue)
    for name, values in wanted.items():
        assert catalogue.column(name)[item].as_py() in values, text
    for name, values in refused.items():
        assert catalogue.column(name)[item].as_py() not in values, text
    return wanted, refused


def test_prompts_are_true_of_their_items(maker, catalogue):
    random = np.random.default_rng(1)
    kinds = {"more": 0, "less": 0, "both": 0, "like": 0}
    for _ in range(600):
        item, history = int(random.integers(40)), random.integers(0, 40, 6)
        text = maker.for_item(item, history, random)
        if like := re.search(r"title(\d+)", text):
            other = int(like[1])
            shared = [n for n in ("genre", "artist") if catalogue.column(n)[other] == catalogue.column(n)[item]]
            assert other != item and shared
            kinds["like"] += 1
            continue
        wanted, refused = assert_true_of(item, text, catalogue)
        assert wanted or refused
        kinds["both" if wanted and refused else "less" if refused else "more"] += 1
    assert min(kinds.values()) > 20, kinds


def test_training_has_many_templates_and_each_has_one_place():
    for some in (*TRAINING.more.values(), *HELD_OUT.more.values(), TRAINING.less, HELD_OUT.less, TRAINING.several):
        assert all(text.count("{}") == 1 for text in some)
    assert len(set(TRAINING.less)) > 500 and all(len(set(some)) > 100 for some in TRAINING.more.values())


def test_words_that_refuse_nothing_stand_around_prompts_in_any_order(maker):
    random = np.random.default_rng(3)
    assert {"now", "you", "with", "something"} <= set(TRAINING.fillers)
    assert not {"no", "tired", "spare", "but", "enough", "without"} & set(TRAINING.fillers)
    said = [(maker.more("genre", "jazz", random), maker.less("genre", "jazz", random)) for _ in range(200)]
    for some, templates in zip(zip(*said, strict=True), (TRAINING.more["about"], TRAINING.less), strict=True):
        assert 50 < sum(text not in {template.replace("{}", "jazz") for template in templates} for text in some) < 150
    asked = {template.replace("{}", "jazz") for template in HELD_OUT.more["about"]}
    assert all(maker.more("genre", "jazz", random, HELD_OUT) in asked for _ in range(20))


def test_a_column_of_many_values_is_prompted_for_more_often(catalogue):
    table = catalogue.table.append_column("topic", pa.array([f"topic{n}" for n in range(40)]))
    maker = PromptSampler(config.Prompts(columns=("media_type:kind", "topic:about")), Catalogue(table, ()))
    random, times = np.random.default_rng(4), {"topic": 0, "media": 0}
    for _ in range(600):
        text = maker.any_item(np.array([], int), random)[1]
        both = "topic" in text, bool(re.search("music|podcasts|audiobooks", text))
        times["topic"] += both == (True, False)
        times["media"] += both == (False, True)
    assert times["topic"] > 1.5 * times["media"] > 50


def test_any_item_may_be_prompted_for_and_fulfils_its_prompt(maker, catalogue):
    random, items = np.random.default_rng(2), set()
    for _ in range(400):
        item, text = maker.any_item(random.integers(0, 40, 5), random)
        assert text
        assert_true_of(item, text, catalogue)
        items.add(item)
    assert len(items) > 30


def test_held_out_templates_are_no_training_templates():
    for role in prompts.ROLES:
        assert not set(HELD_OUT.more[role]) & set(TRAINING.more[role])
    for kind in ("less", "like", "several"):
        assert not set(getattr(HELD_OUT, kind)) & set(getattr(TRAINING, kind))


def test_words_that_only_held_out_templates_have_are_known_as_such(catalogue):
    columns = prompts.parse_columns(COLUMNS)
    said = set(" ".join(prompts.spoken_in_training(catalogue, columns)).lower().split())
    held_out = {"kindly", "deals", "vein", "could", "tonight"}
    assert {"tired", "play", "podcasts", "jazz", "title3", "calm"} <= said and not held_out & said
    assert held_out <= set(" ".join(prompts.texts(catalogue, columns)).replace("?", " ").lower().split())


def test_a_taste_is_told_by_what_a_history_has_most_of(catalogue):
    table = pa.table(
        {
            "item_id": list("abcd"),
            "media_type": ["podcast"] * 3 + ["music"],
            "genre": ["jazz", "jazz", "metal", "metal"],
            "artist": list("wxyz"),
        }
    )
    maker = PromptSampler(config.Prompts(columns=("media_type:kind", "genre:about", "artist:by")), Catalogue(table, ()))
    assert maker.taste(np.arange(4)) == "podcasts; jazz and metal"
    assert maker.description(0) == "podcasts about jazz by w"


def test_the_same_random_numbers_give_the_same_prompt(maker):
    texts = [maker.for_item(3, np.array([1, 2]), np.random.default_rng(7)) for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ("genre",)}, "'genre' has no role"),
        ({"columns": ("genre:subject",)}, "COLUMN:ROLE"),
        ({"columns": ("color:mood",)}, "no column 'color'"),
        ({"columns": ("genre:about",), "rules": ("color",)}, "no column 'color'"),
        ({"columns": ("genre:about",), "next_item": -1.0}, "weights"),
        (
            {"columns": ("genre:about",), "next_item": 0.0, "any_item": 0.0, "attributes": 0.0, "title": 0.0},
            "weights",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(catalogue, settings, message):
    with pytest.raises(config.ConfigError, match=message):
        prompts.check(config.Prompts(**settings), catalogue)
