"""Config files of users, and values of flags."""

import dataclasses

import pytest
from absl import flags

from genrec import script_flags
from genrec.config import ConfigError, Experiment
from genrec.settings import Setting, setting

MISSPELLED = """
from genrec.config import Experiment

def get_config():
    experiment = Experiment()
    experiment.trainig = 3
    return experiment
"""


def write(folder, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def test_a_config_is_loaded_with_its_variant(tmp_path):
    path = write(
        tmp_path,
        "from genrec import config\n\n\ndef get_config(variant='a'):\n    return config.Experiment(name=variant)\n",
    )
    assert script_flags.load(path).name == "a" and script_flags.load(f"{path}:b:c").name == "b:c"
    assert type(script_flags.load(path)) is Experiment


@pytest.mark.parametrize(
    "text, words",
    [
        ("def get_config():\n    return {}\n", ["genrec.config.Experiment", "{}"]),
        ("def get_config():\n    pass\n", ["genrec.config.Experiment", "None"]),
        ("def get_config():\n    x = 1\n    return [][x]\n", ["mine.py, line 3", "IndexError"]),
        ("import nothing_like_it\n", ["mine.py, line 1", "nothing_like_it"]),
        ("def get_config(:\n", ["mine.py, line 1", "SyntaxError"]),
        ("x = 3\n", ["mine.py", "get_config"]),
        (MISSPELLED, ["trainig", "Did you mean training"]),
    ],
)
def test_a_config_that_gives_no_experiment_is_refused_with_the_place(tmp_path, text, words):
    with pytest.raises(ConfigError) as error:
        script_flags.load(write(tmp_path, text))
    assert all(word in str(error.value) for word in ["mine.py", *words])


def test_a_file_that_is_missing_is_refused_with_the_nearest(tmp_path):
    path = write(tmp_path, "")
    with pytest.raises(ConfigError, match=r"mien\.py.*Did you mean .*mine\.py"):
        script_flags.load(path.replace("mine", "mien"))
    with pytest.raises(ConfigError, match="no file"):
        script_flags.load(str(tmp_path))


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (int, "12", 12),
        (float, "1e-3", 0.001),
        (str, "a,b", "a,b"),
        (tuple[int, ...], "64,64, 32", (64, 64, 32)),
        (tuple[int, ...], "(64, 64)", (64, 64)),
        (tuple[int, ...], "64", (64,)),
        (tuple[str, ...], "country,age_band", ("country", "age_band")),
        (tuple[str, ...], "('item-kNN', 'a,b')", ("item-kNN", "a,b")),
        (tuple[str, ...], "['a']", ("a",)),
        (tuple[str, ...], "", ()),
        (tuple[str, ...], "()", ()),
        (tuple[float, ...], "0,0.5", (0.0, 0.5)),
    ],
)
def test_values_are_parsed_by_their_type(kind, text, value):
    parsed = script_flags.Parser(kind, Setting("for a test")).parse(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "kind, text", [(int, "1.5"), (int, "many"), (float, "nan"), (tuple[int, ...], "1,x"), (tuple[str, ...], "('a'")]
)
def test_values_of_another_type_are_refused(kind, text):
    with pytest.raises(ValueError, match="give|write"):
        script_flags.Parser(kind, Setting("for a test")).parse(text)


def test_a_path_is_expanded_and_not_empty(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = script_flags.PathParser()
    assert parser.parse("~/runs") == "/home/me/runs" and parser.parse("gs://b/~") == "gs://b/~"
    for empty in ("", " "):
        with pytest.raises(ValueError, match="path"):
            parser.parse(empty)


@dataclasses.dataclass(frozen=True)
class Options:
    width_of_test: int = setting(3, "for a test")


def test_the_environment_sets_flags_of_settings(monkeypatch):
    monkeypatch.setenv("TEST_WIDTH_OF_TEST", "4")
    script_flags.define_fields(Options)
    try:
        assert script_flags.of_environment("TEST_") == ["--width_of_test=4"]
    finally:
        delattr(flags.FLAGS, "width_of_test")
