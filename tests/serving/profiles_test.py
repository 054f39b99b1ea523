import json

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.serving.profiles import DENIED, KINDS, Profile, ProfileError, from_history

ROLES = [("genre", "about"), ("artist", "by")]


@pytest.fixture(scope="module")
def catalogue():
    table = {
        "item_id": list("abcde"),
        "title": ["A", "B", "C", "D", "E"],
        "genre": ["jazz", "jazz", "metal", "metal", None],
        "artist": ["Ada", "Uma", "Uma", "Ada", "Zoe"],
        "countries": [["DE", "FR"], ["FR"], ["DE"], [], None],
        "regions": ["DE|FR", "FR", "DE", "", None],
        "explicit": [True, False, False, True, None],
        "year": [1990, 1991, 1990, 1992, None],
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
    assert profile.phrases(catalogue, ROLES) == ["more jazz", "no Uma", "like D"]
    assert profile.phrases(catalogue, []) == ["like D"]
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
    ],
)
def test_malformed_profiles_are_an_error(text, message):
    with pytest.raises(ProfileError, match=message):
        Profile.from_json(text)


def test_entries_about_unknown_items_and_columns_are_an_error(catalogue, tmp_path):
    for about, message in (
        ("item=x", "no item 'x'.* 'a'"),
        ("color=red", "no column 'color'"),
        ("genres=jazz", "nearest are 'genre'"),
        ("genre=Jaz", "'Jaz'.*no effect.*nearest are 'jazz'"),
        ("artist=ada", "nearest are 'Ada'"),
        ("countries=DEU", "nearest are 'DE'"),
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
        ("regions=DE|FR", {0}),
        ("explicit=true", {0, 3}),
        ("year=1990", {0, 2}),
    ],
)
def test_an_entry_matches_items_that_have_its_value_among_others(catalogue, about, rows):
    profile = Profile("u").with_entry("blocked", about).checked(catalogue)
    assert profile.denied(catalogue) == rows
    assert f"{len(rows)} items are never returned" in profile.as_text(catalogue)


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
    assert shown.startswith("u admin: 1 entries\n")
