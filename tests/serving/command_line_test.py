import json

import pytest

from genrec.data.dataset import Dataset
from genrec.serving import command_line
from genrec.serving.profile_entries import LEARNED, ProfileError
from genrec.serving.profiles import Profile


@pytest.fixture
def edit(listener, tmp_path):
    """Returns a function that edits the profile of the first test user, and the profile's path."""
    path = tmp_path / "taste.json"
    user = Dataset(listener / "dataset").split("test").read([0])[0].user_id

    def of(add=(), remove=(), without_learned=False):
        return command_line.edit_profile(listener, path, user, add, remove, ["media_type", "mood"], without_learned)

    return of, path, user


def test_edits_are_written_if_all_are_valid(edit):
    of, path, user = edit
    shown = of(["blocked for 3 days:explicit=true & media_type=music|podcast", "likes x2:mood=calm"])
    profile = Profile.load(path)
    assert profile.user == user and "never returned" in shown
    assert (profile.entries[-2].about, profile.entries[-1].strength) == (
        "explicit=true & media_type=music|podcast",
        2,
    )
    for bad in ("blocked:media_type=musik", "likes x0:mood=calm"):
        with pytest.raises(ProfileError):
            of(["likes:mood=dark", bad])
        assert Profile.load(path) == profile
    of(remove=["media_type=podcast|music & explicit=true"], without_learned=True)
    kept = Profile.load(path).entries
    assert [entry.about for entry in kept] == ["mood=calm"] and kept[0].source != LEARNED


def test_an_export_is_all_of_a_profile_and_deletion_leaves_nothing(edit, tmp_path):
    of, path, user = edit
    of(["likes x2:mood=calm"])
    copy = tmp_path / "copies" / "copy.json"
    command_line.export_profile(path, copy)
    assert Profile.load(copy) == Profile.load(path) and json.loads(copy.read_text())["user"] == user
    with pytest.raises(ProfileError, match="already"):
        command_line.export_profile(path, copy)
    with pytest.raises(ProfileError, match="somebody"):
        command_line.delete_profile(path, "somebody")
    command_line.delete_profile(path, user)
    assert [one.name for one in tmp_path.iterdir()] == ["copies"]
    with pytest.raises(ProfileError, match="no profile"):
        command_line.delete_profile(path)
    path.write_text("not JSON")
    command_line.delete_profile(path)  # what cannot be read can be deleted
    assert not path.exists()
