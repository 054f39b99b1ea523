"""Artifacts are written atomically, and identified by what they were made from."""

import dataclasses
import json
from contextlib import nullcontext

import pytest

from genrec import artifacts, config, files, workdir_lock
from genrec.files import DamagedError


def make(path, recipe="r1", content="a", **kwargs):
    with artifacts.writing(path, "things", recipe, config=config.Data(), **kwargs) as draft:
        (draft.path / "file.txt").write_text(content)


def test_a_written_artifact_is_read_back(tmp_path):
    make(tmp_path / "things", inputs={"dataset": "f0"})
    found = artifacts.read(tmp_path / "things", "things")
    assert (found.kind, found.recipe, found.fingerprint, found.inputs) == ("things", "r1", "r1", {"dataset": "f0"})
    assert found.config["source"] == "files"
    assert (tmp_path / "things" / "file.txt").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["things"]


def test_a_fingerprint_of_its_own_is_kept(tmp_path):
    with artifacts.writing(tmp_path / "things", "things", "r1", config={}) as draft:
        draft.fingerprint = "content"
    assert artifacts.read(tmp_path / "things", "things").fingerprint == "content"
    assert artifacts.up_to_date(tmp_path / "things", "things", "r1")


def test_an_exception_keeps_the_old_artifact(tmp_path):
    make(tmp_path / "things")
    with (
        pytest.raises(RuntimeError, match="half-way"),
        artifacts.writing(tmp_path / "things", "things", "r2", config={}) as draft,
    ):
        (draft.path / "file.txt").write_text("b")
        raise RuntimeError("half-way")
    assert (tmp_path / "things" / "file.txt").read_text() == "a"
    assert artifacts.up_to_date(tmp_path / "things", "things", "r1")
    assert [path.name for path in tmp_path.iterdir()] == ["things"]


def test_a_draft_left_by_a_killed_run_is_removed_under_the_lock(tmp_path):
    leftover = files.temporary_path(tmp_path / "things")
    leftover.mkdir()
    (leftover / "stale.txt").write_text("from before")
    make(tmp_path / "things")
    assert sorted(path.name for path in (tmp_path / "things").iterdir()) == ["artifact.json", "file.txt"]
    assert leftover.exists()  # another thread may be writing it
    with workdir_lock.hold(tmp_path):
        make(tmp_path / "things")
        assert not leftover.exists()


def test_two_writers_of_one_artifact_do_not_meet(tmp_path):
    with artifacts.writing(tmp_path / "things", "things", "r1", config={}) as one:
        make(tmp_path / "things", content="b")
        (one.path / "file.txt").write_text("a")
    assert (tmp_path / "things" / "file.txt").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["things"]


def test_a_scratch_folder_is_empty_and_removed(tmp_path):
    with artifacts.scratch(tmp_path / "things") as folder:
        assert list(folder.iterdir()) == []
        (folder / "found.txt").write_text("a")
    assert list(tmp_path.iterdir()) == []


def test_replacing_removes_the_old_files(tmp_path):
    with artifacts.writing(tmp_path / "things", "things", "r0", config={}) as draft:
        (draft.path / "old.txt").write_text("old")
    make(tmp_path / "things")
    assert not (tmp_path / "things" / "old.txt").exists()


def test_up_to_date_compares_the_recipe(tmp_path):
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r1")
    make(tmp_path / "things")
    assert artifacts.up_to_date(tmp_path / "things", "things", "r1")
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r2")


def test_missing_and_wrong_kinds_are_refused(tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="no things.*launch/run.py"):
        artifacts.read(tmp_path / "things", "things")
    make(tmp_path / "things")
    with pytest.raises(artifacts.ArtifactError, match="things.*dataset"):
        artifacts.read(tmp_path / "things", "dataset")


def test_an_artifact_of_another_input_is_refused(tmp_path):
    make(tmp_path / "things", inputs={"dataset": "f0"})
    artifacts.require_input(tmp_path / "things", "things", "dataset", "f0")
    with pytest.raises(artifacts.ArtifactError, match="another dataset.*f0.*f1"):
        artifacts.require_input(tmp_path / "things", "things", "dataset", "f1")


def test_hashes_depend_on_the_parts_and_their_borders():
    assert artifacts.hash_of("ab", "c") != artifacts.hash_of("a", "bc")
    assert artifacts.hash_of({"a": 1, "b": 2}) == artifacts.hash_of({"b": 2, "a": 1})
    assert artifacts.hash_of(config.Data()) == artifacts.hash_of(config.Data())
    assert artifacts.hash_of(config.Data()) != artifacts.hash_of(dataclasses.replace(config.Data(), k_core=6))
    assert len(artifacts.hash_of(b"\x00")) == 16


def test_a_file_is_hashed_by_its_content(tmp_path):
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (artifacts.hash_file(tmp_path / name) for name in "abc")
    assert a == b != c


def test_text_replaces_a_file_atomically(tmp_path):
    for text in ("first", "second"):
        files.write_text(tmp_path / "folder" / "file.txt", text)
    assert (tmp_path / "folder" / "file.txt").read_text() == "second"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file.txt"]


def reject_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_manifests_are_json_whatever_the_settings(tmp_path):
    settings = {"least": float("-inf"), "most": float("nan"), "both": (1.5, float("inf"))}
    with artifacts.writing(tmp_path / "things", "things", "r1", config=settings):
        pass
    text = (tmp_path / "things" / "artifact.json").read_text()
    assert json.loads(text, parse_constant=reject_constant)["config"] == {
        "least": None,
        "most": None,
        "both": [1.5, None],
    }
    assert artifacts.read(tmp_path / "things", "things").config["least"] is None


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"a"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["file.txt", "artifact.json"])
def test_a_damaged_artifact_is_named_and_made_again(tmp_path, damage, file, caplog):
    folder = tmp_path / "things"
    make(folder)
    DAMAGES[damage](folder / file)
    with pytest.raises(artifacts.ArtifactError, match=f"{folder}.*"):
        artifacts.read(folder, "things")
    if (damage, file) == ("deleted", "artifact.json"):  # it may be anything
        with pytest.raises(artifacts.ArtifactError, match="other files"):
            artifacts.up_to_date(folder, "things", "r1")
        return
    assert not artifacts.up_to_date(folder, "things", "r1")
    assert file in caplog.text
    make(folder)
    assert artifacts.up_to_date(folder, "things", "r1")


def test_checksums_are_compared_on_request(tmp_path, monkeypatch):
    make(tmp_path / "things", content="abc")
    (tmp_path / "things" / "file.txt").write_text("abd")
    assert artifacts.up_to_date(tmp_path / "things", "things", "r1")
    monkeypatch.setattr(artifacts.Verification, "enabled", True)
    with pytest.raises(DamagedError, match="file.txt.*checksum"):
        artifacts.read(tmp_path / "things", "things")
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r1")


def test_manifests_of_other_versions_are_refused(tmp_path):
    make(tmp_path / "things")
    manifest = tmp_path / "things" / "artifact.json"
    fields = json.loads(manifest.read_text())
    for changed in ({**fields, "more": 1}, {name: fields[name] for name in fields if name != "files"}, [1]):
        manifest.write_text(json.dumps(changed))
        with pytest.raises(DamagedError, match="artifact.json.*elete the folder"):
            artifacts.read(tmp_path / "things", "things")


@pytest.mark.parametrize("model", artifacts.MODELS)
def test_what_a_model_was_trained_on_is_not_replaced(tmp_path, model):
    make(tmp_path / "things")
    (tmp_path / model).mkdir(parents=True)
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r2", models=artifacts.MODELS)  # no checkpoint yet
    (tmp_path / model / "12").mkdir()
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r2")
    with pytest.raises(artifacts.ArtifactError, match=f"{model}.*--workdir"):
        artifacts.up_to_date(tmp_path / "things", "things", "r2", models=artifacts.MODELS)
    (tmp_path / "things" / "file.txt").unlink()
    assert not artifacts.up_to_date(tmp_path / "things", "things", "r1", models=artifacts.MODELS)  # made again


def test_a_damaged_artifact_is_not_replaced_by_a_different_one(tmp_path):
    for fingerprint in ("one", "two"):
        refused = pytest.raises(artifacts.ArtifactError, match="two.*one") if fingerprint == "two" else nullcontext()
        with refused, artifacts.writing(tmp_path / "things", "things", "r1", config={}) as draft:
            (draft.path / "file.txt").write_text(fingerprint)
            draft.fingerprint = fingerprint
    assert (tmp_path / "things" / "file.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["things"]


def test_inputs_are_not_within_the_output(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "things")
    artifacts.check_apart(tmp_path / "things", given=tmp_path, other=tmp_path / "things2")
    for given in (tmp_path / "things", tmp_path / "things" / "file.txt", tmp_path / "other" / ".." / "link"):
        with pytest.raises(artifacts.ArtifactError, match="given"):
            artifacts.check_apart(tmp_path / "things", given=given)
