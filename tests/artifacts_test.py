"""Artifacts are written atomically, and identified by what they were made from."""

import dataclasses

import pytest

from genrec import artifacts, config, files


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


def test_a_draft_left_by_a_killed_run_is_cleared(tmp_path):
    leftover = tmp_path / ".things.partial"
    leftover.mkdir()
    (leftover / "stale.txt").write_text("from before")
    make(tmp_path / "things")
    assert sorted(path.name for path in (tmp_path / "things").iterdir()) == ["artifact.json", "file.txt"]


def test_a_scratch_folder_is_empty_and_removed(tmp_path):
    leftover = tmp_path / ".things.partial"
    leftover.mkdir()
    (leftover / "stale.txt").write_text("from before")
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
