import dataclasses
import datetime
import json
import re

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING
from genrec.serving.profile_entries import DENIED, KINDS, LEARNED, SAID, Entry, Part, ProfileError
from genrec.serving.profiles import Profile, from_history

ROLES = [("genre", "about"), ("artist", "by")]


def entry_of(**fields):
    entry = {"kind": "likes", "about": "a=b", "since": "2024-01-01", **fields}
    return json.dumps({"user": "u", "entries": [entry]})


@pytest.fixture(scope="module")
def catalogue():
    table = {
        "item_id": list("abcde"),
        "title": ["A", "B", "Title C", "D", "E"],
        "genre": ["jazz", "jazz", "metal", "metal", None],
        "artist": ["Ada", "Uma", "Uma", "Ada", "Zoe"],
        "countries": [["DE", "FR"], ["FR"], ["DE"], [], None],
        "regions": ["DE|FR", "FR", "DE", "", None],
        "explicit": [True, False, False, True, None],
        "year": [1990, 1991, 1990, 1992, None],
        "rating": [1.0, 2.0, 3.5, None, 4.0],
    }
    return Catalogue(pa.table(table), ("title",))


def test_edits_round_trip(tmp_path):
    profile = Profile("u1")
    for number, kind in enumerate(KINDS):
        profile = profile.with_entry(kind, f"genre=g{number}", f"2024-01-0{number + 1}")
    profile.save(tmp_path / "deep" / "u1.json")
    assert Profile.load(tmp_path / "deep" / "u1.json") == profile
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["u1.json"]
    kept = profile.without("genre=g2")
    assert [entry.about for entry in kept.entries] == ["genre=g0", "genre=g1", "genre=g3", "genre=g4"]
    changed = kept.with_entry("blocked", "genre=g0", "2024-02-01")
    assert changed.entries[-1].kind == "blocked" and len(changed.entries) == 4  # replaces the earlier entry
    assert Profile.from_json(changed.as_json()) == changed
    assert json.loads(changed.as_json())["user"] == "u1"


def test_blocked_and_disliked_items_are_denied(catalogue):
    for kind in KINDS:
        denied = Profile("u").with_entry(kind, "genre=jazz").with_entry(kind, "item=e").denied(catalogue)
        assert denied == (frozenset({0, 1, 4}) if kind in DENIED else frozenset())


def test_entries_become_phrases_and_an_offset(catalogue):
    profile = Profile("u").with_entry("more_of", "genre=jazz").with_entry("blocked", "artist=Uma")
    profile = profile.with_entry("likes", "item=d")
    assert [one.text for one in profile.phrases(catalogue, ROLES)] == ["more jazz", "no Uma", "like D"]
    assert [one.text for one in profile.phrases(catalogue, [])] == ["like D"]
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    middle = vectors.mean(axis=0)
    expected = vectors[:2].mean(axis=0) - middle - (vectors[1:3].mean(axis=0) - middle) + vectors[3] - middle
    np.testing.assert_allclose(profile.offset(catalogue, vectors), expected, rtol=1e-5)
    assert Profile("u").offset(catalogue, vectors) is None


def test_a_profile_from_a_history_has_its_most_frequent_values(catalogue):
    made = from_history("u", np.array([0, 1, 1, 2]), catalogue, ("genre", "artist"), "2024-01-01")
    assert [(entry.kind, entry.about) for entry in made.entries] == [
        ("likes", "genre=jazz"),
        ("likes", "artist=Uma"),
    ]
    assert from_history("u", np.array([0, 2]), catalogue, ("genre",), "2024-01-01").entries == ()
    shown = made.as_text(catalogue)
    assert "likes genre=jazz" in " ".join(shown.split()) and "2 items" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[1]", "JSON object"),
        ('{"user": "u"}', "JSON object"),
        ('{"user": "u", "entries": {}}', "entries.*not a list"),
        ('{"user": 17, "entries": []}', "the profile: user is 17, not text"),
        ('{"user": "u", "entries": [{"kind": "likes"}]}', "JSON object"),
        ('{"user": "u", "entries": [3]}', "entry 1.*JSON object"),
        ('{"user": "u", "entries": [{"kind": 5, "about": "a=b", "since": "2024-01-01"}]}', "entry 1: kind is 5"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": 1990, "since": "2024-01-01"}]}', "about is 1990"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "a=b", "since": 2024}]}', "since is 2024"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "a=\\ud800", "since": "2024-01-01"}]}', "about"),
        ('{"user": "u", "entries": [{"kind": "loves", "about": "a=b", "since": "2024-01-01"}]}', "'loves'"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "jazz", "since": "2024-01-01"}]}', "COLUMN=VALUE"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "a=b", "since": "yesterday"}]}', "since"),
        (entry_of(until=7), "entry 1: until is 7"),
        (entry_of(until="2023-12-31"), "before since"),
        (entry_of(strength="2"), "strength is '2'"),
        (entry_of(strength=True), "strength is True"),
        (entry_of(strength=float("nan")), "strength is nan"),
        (entry_of(strength=-1), "strength is -1"),
        (entry_of(source="guessed"), "'guessed'"),
        (entry_of(expires="2024-01-31"), "'expires'"),
        (
            entry_of(about="a=b").replace("[{", '[{"kind": "blocked", "about": "a=b", "since": "2024-01-01"}, {'),
            "entry 2",
        ),
    ],
)
def test_malformed_profiles_are_an_error(text, message):
    with pytest.raises(ProfileError, match=message):
        Profile.from_json(text)


def test_entries_about_unknown_items_and_columns_are_an_error(catalogue, tmp_path):
    for about, message in (
        ("genre=jazz|Jaz", "'Jaz'.*nearest is 'jazz'"),
        ("explicit=true & genre=roc", "'roc'"),
        ("artist=Zoe & genre=jazz", "at once"),
        ("year=1990 & genre=jazz & artist=Uma", "at once.*year beside the rest.*'1991'"),
        ("artist=a", "nearest are 'Ada'"),
        ("rating=high", "rating=high"),
        ("item=Title C", "nearest is 'c'"),
        ("item=x", "no item 'x'.* 'a'"),
        ("color=red", "no column 'color'"),
        ("genres=jazz", "nearest is 'genre'"),
        ("genre=Jaz", "'Jaz'.*no effect.*nearest is 'jazz'"),
        ("artist=ada", "nearest is 'Ada'"),
        ("countries=DEU", "nearest is 'DE'"),
        ("regions=XX", "for instance, 'DE', 'FR'"),
        ("year=199", "nearest are '199"),
    ):
        with pytest.raises(ProfileError, match=message):
            Profile("u").with_entry("likes", about).checked(catalogue)
    with pytest.raises(ProfileError, match="genre=jazz"):
        Profile("u").without("genre=jazz")
    with pytest.raises(ProfileError, match="missing.json"):
        Profile.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("about", "rows"),
    [
        ("countries=DE", {0, 2}),
        ("regions=DE", {0, 2}),
        ('regions="DE|FR"', {0}),  # the whole cell
        ("regions=DE|FR", {0, 1, 2}),
        ("countries=DE & countries=FR", {0}),
        ("explicit=true & genre=jazz", {0}),
        ("explicit=false & genre=metal & artist=Uma|Zoe", {2}),
        ("item=a|c", {0, 2}),
        ("item=a|c & genre=metal", {2}),
        ("explicit=true", {0, 3}),
        ("year=1990", {0, 2}),
    ],
)
def test_an_entry_matches_items_that_have_its_value_among_others(catalogue, about, rows):
    profile = Profile("u").with_entry("blocked", about).checked(catalogue)
    assert profile.denied(catalogue) == rows
    assert re.search(rf"\b{len(rows)} items? never returned", profile.as_text(catalogue))


WORDS = ("a", "b c", " & ", "&", "=", "|", '"', "\\", "x=y", "\n", "ü", ", ")


def test_any_value_can_be_written_and_read():
    """Values made of everything that the text form uses, in any number of columns."""
    random = np.random.default_rng(0)
    for _ in range(500):
        texts = ["".join(random.choice(WORDS, random.integers(1, 5))) for _ in range(2 * random.integers(1, 4))]
        parts = [
            Part(f"column {number}", tuple(sorted({one, other})))
            for number, (one, other) in enumerate(zip(texts[::2], texts[1::2], strict=True))
        ]
        entry = Entry("likes", " & ".join(map(str, parts)), "2024-01-01")
        assert entry.parts == tuple(parts)
        assert Entry.from_json(json.loads(json.dumps(entry.as_json()))) == entry
        profile = Profile("u").with_entries(entry)
        assert profile.without(" & ".join(map(str, parts[::-1]))).entries == ()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("artist=Earth, Wind & Fire", [("artist", ("Earth, Wind & Fire",))]),
        ("artist=Earth, Wind & Fire & genre = soul", [("artist", ("Earth, Wind & Fire",)), ("genre", ("soul",))]),
        ('title="Heroes" - Bowie', [("title", ('"Heroes" - Bowie',))]),
        ('title="a|b"|c', [("title", ("a|b", "c"))]),
        ("genre=jazz | folk|jazz", [("genre", ("folk", "jazz"))]),
    ],
)
def test_the_text_form_needs_quotation_marks_only_where_it_is_ambiguous(text, parts):
    assert list(Entry("likes", text, "2024-01-01").parts) == parts


@pytest.mark.parametrize(
    ("text", "kind", "until", "strength"),
    [
        ("likes:genre=jazz", "likes", None, 1),
        ("likes genre=jazz", "likes", None, 1),
        ("more_of x2.5: genre=jazz", "more_of", None, 2.5),
        ("blocked for a week:genre=jazz", "blocked", "2024-02-05", 1),
        ("less_of x0.5 for 3 days genre=jazz", "less_of", "2024-02-01", 0.5),
        ("blocked until 2024-03-01:genre=jazz", "blocked", "2024-03-01", 1),
    ],
)
def test_an_entry_in_words_has_a_strength_and_an_end(text, kind, until, strength):
    entry = Entry.parse(text, datetime.date(2024, 1, 29))
    assert entry == Entry(kind, "genre=jazz", "2024-01-29", until, strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "KIND"),
        ("likes", "KIND"),
        ("loves:genre=jazz", "'loves'"),
        (":genre=jazz", "''"),
        ("likes:jazz", "COLUMN=VALUE"),
        ("likes:genre=", "COLUMN=VALUE"),
        ("likes:genre=jazz|", "COLUMN=VALUE"),
        ("likes:=jazz", "COLUMN=VALUE"),
        ("likes x0:genre=jazz", "strength"),
        ("likes x11:genre=jazz", "strength"),
        ("likes for 9999 years:genre=jazz", "9999.*end out"),
        ("likes until tomorrow:genre=jazz", "until.*date"),
        ("blocked for two weeks:genre=jazz", "for 3 days"),
        ("blocked for two weeks genre=jazz", "for 3 days"),
        ("likes twice:genre=jazz", "likes x2"),
        ("likes until 2024-01-28:genre=jazz", "before since"),
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error(text, message):
    with pytest.raises(ProfileError, match=message):
        Entry.parse(text, datetime.date(2024, 1, 29))


def test_long_texts_are_read_at_once():
    spaces = " " * 100_000  # in quadratic time, an hour
    for text in (f"likes:a={spaces}x", f"likes:a=b &{spaces}c"):
        assert Entry.parse(text, datetime.date(2024, 1, 1)).parts[0].column == "a"


def test_an_entry_expires_after_its_last_day(catalogue):
    day = datetime.date(2024, 1, 29)
    profile = Profile("u").with_entries(Entry.parse("blocked for a week:genre=jazz", day))
    profile = profile.with_entry("blocked", "genre=metal", "2024-01-29")
    for days, denied in ((0, {0, 1, 2, 3}), (7, {0, 1, 2, 3}), (8, {2, 3})):
        assert profile.holding(day + datetime.timedelta(days)).denied(catalogue) == denied
    assert "until 2024-02-05" in profile.as_text(catalogue, day)
    assert "expired" in profile.as_text(catalogue, day + datetime.timedelta(8))


def test_strengths_scale_the_offset_and_not_what_is_blocked(catalogue):
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for kind in KINDS:
        weak, strong = (Profile("u").with_text(f"{kind} x{strength}:genre=jazz & artist=Uma") for strength in (0.5, 2))
        np.testing.assert_allclose(4 * weak.offset(catalogue, vectors), strong.offset(catalogue, vectors), rtol=1e-5)
        assert weak.denied(catalogue) == strong.denied(catalogue) == (frozenset({1}) if kind in DENIED else set())


def test_words_refuse_no_single_value_of_several_columns(catalogue):
    def texts(kind, about):
        return [one.text for one in Profile("u").with_entry(kind, about).phrases(catalogue, ROLES)]

    assert texts("likes", "genre=jazz|metal") == ["more jazz", "more metal"]
    assert texts("blocked", "genre=jazz|metal") == ["no jazz", "no metal"]
    assert texts("likes", "genre=jazz & artist=Uma") == ["more about jazz by Uma"]
    assert texts("blocked", "genre=jazz & artist=Uma") == texts("blocked", "genre=jazz & year=1990") == []


def test_what_is_learned_is_marked_and_gives_way_to_what_is_said(catalogue):
    made = from_history("u", np.array([0, 1, 1, 2]), catalogue, ("genre", "artist"), "2024-01-01")
    assert {entry.source for entry in made.entries} == {LEARNED} and "learned" in made.as_text(catalogue)
    assert [entry.strength for entry in made.entries] == [0.75, 0.75]
    said = made.with_entry("blocked", "genre=jazz")
    assert [(entry.about, entry.source) for entry in said.entries] == [("artist=Uma", LEARNED), ("genre=jazz", SAID)]
    assert said.with_entries(*made.entries).entries[0].kind == "blocked"
    assert Profile.from_json(said.as_json()) == said
    assert [entry.about for entry in said.without_learned().entries] == ["genre=jazz"]


def test_conditions_hold_for_items_that_a_live_catalogue_adds(catalogue):
    """An item that the engine has not seen is refused by what it is, or if that is unknown."""
    blocked = Profile("u").with_entry("blocked", "explicit=true & genre=jazz").with_entry("blocked", "item=b")
    item_filter = blocked.restrict(EVERYTHING, catalogue)
    more = {"item_id": ["f", "g"], "genre": ["jazz", "jazz"], "explicit": [True, False]}
    grown = Catalogue(pa.concat_tables([catalogue.table, pa.table(more)], promote_options="default"), ("title",))
    assert np.flatnonzero(item_filter.mask(7, grown)).tolist() == [2, 3, 4, 6]
    assert np.flatnonzero(item_filter.mask(7, catalogue)).tolist() == [2, 3, 4]
    allowed = dataclasses.replace(item_filter, allow=frozenset({0, 1, 2, 6}))
    assert np.flatnonzero(allowed.mask(7, grown)).tolist() == [2, 6]


def test_a_profile_from_a_history_matches_its_items(catalogue):
    columns = ("countries", "explicit", "year")
    made = from_history("u", np.array([0, 0, 0, 3]), catalogue, columns, "2024-01-01").checked(catalogue)
    assert [entry.about for entry in made.entries] == ["countries=DE", "explicit=true", "year=1990"]


@pytest.mark.parametrize("kind", ["folder", "binary", "empty"])
def test_files_that_are_no_profiles_are_named(tmp_path, kind):
    path = tmp_path / "taste.json"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\x93NUMPY\xff\xfe" if kind == "binary" else b"")
    with pytest.raises(ProfileError, match="taste.json"):
        Profile.load(path)


def test_a_profile_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="file/taste.json"):
        Profile("u").save(tmp_path / "file" / "taste.json")


def test_lines_about_a_profile_obey_no_terminal(catalogue):
    shown = Profile("u\nadmin").with_entry("likes", "genre=jazz").as_text(catalogue)
    assert shown.startswith("u admin: 1 entry\n")
