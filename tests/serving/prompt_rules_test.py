import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.serving.prompt_rules import PromptRules


@pytest.fixture(scope="module")
def rules():
    table = {
        "item_id": list("abcd"),
        "media_type": ["music", "podcast", "audiobook", "music"],
        "genre": ["hip hop", "history", "true crime", "metal"],
        "artist": ["Ada Costa", "Uma Quinn", "Ada Costa", None],
        "explicit": [True, False, False, True],
    }
    return PromptRules(
        ("media_type", "genre", "artist", "explicit"), {"media_type": "kind"}, Catalogue(pa.table(table), ())
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("something calm", []),
        ("play music", ["media_type=music"]),
        ("Some PODCASTS please", ["media_type=podcast"]),
        ("a podcast about history", ["media_type=podcast", "genre=history"]),
        ("no audiobooks", ["media_type!=audiobook"]),
        ("something calm, no podcasts", ["media_type!=podcast"]),
        ("music or podcasts", ["media_type=music,podcast"]),
        ("no music or podcasts", ["media_type!=music,podcast"]),
        ("please spare me podcasts, but play hip hop", ["genre=hip hop", "media_type!=podcast"]),
        ("I have had enough of Ada Costa", ["artist!=Ada Costa"]),
        ("nothing by ada costa", ["artist!=Ada Costa"]),
        ("no more of that metal", ["genre!=metal"]),
        ("without explicit things", ["explicit!=true"]),
        ("metallic sounds, musical", []),  # other words
        ("anything but true crime", ["genre!=true crime"]),
        ("I do not mind, play metal", ["genre=metal"]),
    ],
)
def test_rules_of_prompts(rules, prompt, expected):
    found = [f"{c.column}{c.operator}{','.join(c.values)}" for c in rules.conditions(prompt)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ""),
        ("podcasts about history", ""),
        ("something calm, no podcasts", "podcasts"),
        ("no metal or hip hop, but podcasts", "hip hop, metal"),
        ("less metal", ""),
    ],
)
def test_negative_prompts(rules, prompt, expected):
    assert rules.negative_prompt(prompt) == expected


def test_further_negations_can_be_given():
    catalogue = Catalogue(pa.table({"item_id": ["a"], "genre": ["metal"]}), ())
    rules = PromptRules(("genre",), {"genre": "about"}, catalogue, also=("less",))
    assert rules.negative_prompt("less of that Metal, please") == "metal" and rules.negative_prompt("more metal") == ""
