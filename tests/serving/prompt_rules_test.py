import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING
from genrec.serving.prompt_rules import PromptRules

ROLES = {"media_type": "kind", "genre": "about", "topic": "about", "mood": "mood", "artist": "by"}
PROMPTS = Path(__file__).with_name("prompts.tsv")


@pytest.fixture(scope="module")
def catalogue():
    genres = ["jazz", "history", "true crime", "metal", "hip hop", "romance", "j-pop", "science fiction"]
    artists = ["Ada Costa", "Uma Quinn", "Calm", "Love", "Yes", "Theo Bauer", None, "Nothing But Thieves"]
    topics = ["oceans", "black holes", "sleep", "elections", "bank heists", "first love", "carnival", "dub echoes"]
    moods = ["calm", "dark", "sad", "warm", "bold", "dreamy", "playful", "restless"]
    table = {
        "item_id": list("abcdefgh"),
        "media_type": ["music", "podcast", "audiobook", "music"] * 2,
        "genre": genres,
        "artist": artists,
        "topic": topics,
        "mood": moods,
        "explicit": [True, False] * 4,
        "countries": ["DE|FR", "US"] * 4,
    }
    return Catalogue(pa.table(table), ())


@pytest.fixture(scope="module")
def rules(catalogue):
    return PromptRules((*ROLES, "explicit"), ROLES, catalogue)


def rules_of(understood):
    """Returns rules as texts, as prompts.tsv has them."""
    single = [f"{c.column}{c.operator}{'|'.join(sorted(c.values))}" for c in understood.conditions]
    several = [sorted(f"{c.column}={'|'.join(c.values)}" for c in one) for one in understood.deny_where]
    return sorted(single + [f"!({'&'.join(one)})" for one in several])


def examples():
    with PROMPTS.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


def test_there_are_many_different_examples():
    prompts = [prompt for prompt, _ in examples()]
    assert len(set(prompts)) == len(prompts) > 300


def test_rules_of_prompts(rules):
    wrong = [f"{prompt}: {expected}, found {found}" for prompt, expected, found in wrongly_read(rules)]
    assert wrong == []


def wrongly_read(rules):
    """Yields the examples with other rules than expected."""
    for prompt, expected in examples():
        found = rules_of(rules.read(prompt))
        _, _, never = expected.partition("never:")
        if never:
            column, operator, value = re.fullmatch(r"([a-z_]+)(!?=)(.*)", never).groups()
            forbidden = re.compile(rf"{column}{operator}(.*\|)?{re.escape(value)}(\|.*)?")
            right = not any(forbidden.fullmatch(one) for one in found)
        else:
            rows = [one.partition("=") for one in expected.split(";") if expected != "none"]
            right = found == sorted(f"{a}{b}{'|'.join(sorted(c.split('|')))}" for a, b, c in rows)
        if not right:
            yield prompt, expected, found


@pytest.mark.parametrize(
    "prompt", ["{}", "{}!", " {}  ", "please {}", "hi, {}", "ok {}", "{}, please", "{}.", "honestly, {}", "{} today"]
)
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("no podcasts", ["media_type!=podcast"]),
        ("I don't want podcasts", ["media_type!=podcast"]),
        ("I hate podcasts", ["media_type!=podcast"]),
        ("play podcasts", ["media_type=podcast"]),
        ("podcasts are boring", ["media_type!=podcast"]),
        ("I don't mind podcasts", []),
        ("not just podcasts", []),
        ("no sad music", ["!(media_type=music&mood=sad)"]),
    ],
)
def test_what_surrounds_a_clause_changes_nothing(rules, prompt, said, expected):
    assert rules_of(rules.read(prompt.format(said))) == expected


def test_no_refusal_becomes_its_opposite_whatever_the_value(rules, catalogue):
    refusals = (
        "no {}",
        "I don't like {}",
        "anything but {}",
        "{} is boring",
        "sick of {}",
        "{}? no",
        "not {}",
        "skip {}",
    )
    for column in ("genre", "topic", "media_type"):
        for value in catalogue.column(column).to_pylist():
            for refusal in refusals:
                found = rules.read(refusal.format(value)).conditions
                assert [(c.column, c.operator, c.values) for c in found] == [(column, "!=", (value,))], refusal


def test_what_is_refused_by_several_values_leaves_items_with_one_of_them(rules, catalogue):
    mask = rules.read("no dark podcasts, no metal").restrict(EVERYTHING).mask(len(catalogue), catalogue)
    genres, moods, media = (catalogue.column(name).to_pylist() for name in ("genre", "mood", "media_type"))
    expected = [
        g != "metal" and (m, kind) != ("dark", "podcast") for g, m, kind in zip(genres, moods, media, strict=True)
    ]
    assert mask.tolist() == expected and not all(mask) and any(moods[i] == "dark" for i in range(8))


def test_values_of_columns_without_rules_are_taste(catalogue):
    rules = PromptRules(("media_type",), ROLES, catalogue)
    understood = rules.read("calm podcasts only, no true crime, less metal")
    assert rules_of(understood) == ["media_type=podcast"]
    assert understood.negative_prompt() == "true crime, metal"
    assert understood.as_text() == "only podcasts; taste: calm, no true crime, less metal"
    assert [line.split(": ")[1] for line in understood.as_table()[2:]] == [
        "no true crime, from 'no true crime'",
        "less metal, from 'less metal'",
    ]
    assert rules_of(rules.read("no sad music")) == ["!(media_type=music&mood=sad)"]


def test_every_part_has_the_words_that_it_came_from(rules):
    understood = rules.read("podcasts only, no true crime, with a woman singing")
    assert understood.as_text() == "only podcasts; not: true crime; taste: with a woman singing"
    assert [part.words for part in understood.parts] == ["podcasts only", "no true crime", "with a woman singing"]
    assert all(f"part {n}, " in line for n, line in enumerate(understood.as_table(), start=1))
    fields = understood.as_json()["parts"]
    assert [(part["kind"], part["rule"]) for part in fields] == [("only", True), ("not", True), ("taste", False)]
    assert fields[1]["conditions"] == {"genre": ["true crime"]}


def test_parts_can_be_switched_off(rules):
    understood = rules.read("podcasts only, no true crime, with a woman singing")
    assert rules_of(understood.without([2])) == ["media_type=podcast"]
    assert understood.without([2]).negative_prompt() == "true crime"
    assert understood.without([3]).lines() == ["podcasts only, no true crime"]
    rest = rules.read("podcasts only, with a woman singing, no true crime").without([2])
    assert [part["number"] for part in rest.as_json()["parts"]] == [1, 3], "numbers stay"
    assert rest.as_table()[1].startswith("part 3, not")
    assert rules_of(rest.without([3])) == ["media_type=podcast"]
    assert rules_of(rules.read("podcasts only, no true crime", rules=False)) == []
    with pytest.raises(DataError, match="3 parts"):
        understood.without([4])


@pytest.mark.parametrize(
    ("lines", "expected", "said"),
    [
        (["something calm", "no podcasts"], ["media_type!=podcast", "mood=calm"], ["something calm", "no podcasts"]),
        (["no music", "music"], ["media_type=music"], ["music"]),
        (["music", "podcasts"], ["media_type=podcast"], ["podcasts"]),
        (["music", "no music"], ["media_type!=music"], ["no music"]),
        (["calm music", "not calm"], ["media_type=music", "mood!=calm"], ["calm music", "not calm"]),
        (["podcasts, no jazz", "not by Ada Costa"], ["artist!=Ada Costa", "genre!=jazz", "media_type=podcast"], None),
    ],
)
def test_later_lines_go_on_from_earlier_ones_and_override_them(rules, lines, expected, said):
    understood = rules.read("\n".join(lines))
    assert rules_of(understood) == expected and understood.lines() == (said or lines)


def test_asking_for_and_refusing_the_same_makes_no_rule(rules):
    understood = rules.read("podcasts, no podcasts")
    assert rules_of(understood) == [] and understood.lines(refusals=False) == []


@pytest.mark.parametrize(
    ("prompt", "heard", "refused"),
    [
        ("something calm, my wife hates jazz", "something calm", ""),
        ("you keep giving me jazz, please stop", "please stop", ""),
        ("jazz just doesn't do it", "", ""),
        ("nothing to do with jazz", "", ""),
        ("something calm, lay off the jazz", "something calm", "jazz"),
        ("less jazz, more metal", "more metal", "jazz"),
        ("can't get enough of jazz", "can't get enough of jazz", ""),
        ("why don't we try jazz", "why don't we try jazz", ""),
        ("crank up the jazz", "crank up the jazz", ""),
        ("nothing too long", "nothing too long", ""),
    ],
)
def test_the_model_hears_neither_refusals_of_a_negative_prompt_nor_what_may_be_one(rules, prompt, heard, refused):
    """To the model, words that it does not know ask for what they name."""
    understood = rules.read(prompt, rules=False)
    assert ", ".join(understood.lines(refusals=False)) == heard and understood.negative_prompt() == refused
    assert understood.lines() == [prompt], "scores without a negative prompt take all of it"
    assert ("not understood: " in understood.as_text()) == (heard != prompt and not refused)


@pytest.mark.parametrize(
    "prompt",
    [
        "keine Podcasts",
        "bitte nur Podcasts",
        "ohne podcasts",
        "pas de podcasts",
        "je veux des podcasts",
        "geen podcasts",
    ],
)
def test_another_language_makes_no_rules_and_is_said(rules, prompt):
    understood = rules.read(prompt)
    assert not understood.english and rules_of(understood) == [] and "not in English" in understood.as_text()
    assert understood.lines() == [prompt]


@pytest.mark.parametrize(
    "prompt",
    ["", "jazz", "podcasts", "no", "die hard fans of jazz", "a la carte jazz", "jazz an hour", "sin city", "café music",
     "Los Lobos, please", "play La Roux", "hat man will war", "music by Calm", "naïve jazz", "something so calm",
     "ok", "J-pop!", "um, podcasts", "no podcasts, por favor", "give me de la soul", "no non-fiction"],
)  # fmt: skip
def test_short_english_prompts_are_english(rules, prompt):
    assert rules.read(prompt).english


def test_cells_with_several_values_are_tested_for_what_they_contain(catalogue):
    (condition,) = PromptRules(("countries",), {}, catalogue).conditions("nothing about FR")
    assert condition.mask(catalogue).tolist() == [False, True] * 4


def test_singular_and_plural_are_the_same_and_other_words_are_not():
    names = {"kind": ["movies", "news", "story", "series"], "item_id": list("abcd")}
    rules = PromptRules(("kind",), {"kind": "kind"}, Catalogue(pa.table(names), ()))
    for prompt, value in [("a movie", "movies"), ("stories", "story"), ("no movie", "movies"), ("some news", "news")]:
        assert rules.conditions(prompt)[0].values == (value,)
    assert rules.conditions("something new") == ()


def test_unknown_columns_are_an_error(catalogue):
    with pytest.raises(DataError, match="'color'"):
        PromptRules(("color",), {}, catalogue)
