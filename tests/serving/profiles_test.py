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
        ("not json", "JSON object"),
        ('{"user": "u"}', "JSON object"),
        ('{"user": "u", "entries": [{"kind": "likes"}]}', "JSON object"),
        ('{"user": "u", "entries": [{"kind": "loves", "about": "a=b", "since": "2024-01-01"}]}', "'loves'"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "jazz", "since": "2024-01-01"}]}', "COLUMN=VALUE"),
        ('{"user": "u", "entries": [{"kind": "likes", "about": "a=b", "since": "yesterday"}]}', "since"),
    ],
)
def test_malformed_profiles_are_an_error(text, message):
    with pytest.raises(ProfileError, match=message):
        Profile.from_json(text)


def test_entries_about_unknown_items_and_columns_are_an_error(catalogue, tmp_path):
    for about, message in (("item=x", "'x'"), ("color=red", "'color'")):
        with pytest.raises(ProfileError, match=message):
            Profile("u").with_entry("likes", about).checked(catalogue)
    with pytest.raises(ProfileError, match="genre=jazz"):
        Profile("u").without("genre=jazz")
    with pytest.raises(ProfileError, match="missing.json"):
        Profile.load(tmp_path / "missing.json")
