"""Every setting declares what it may be; what it may not be is refused by name, and what it may be runs."""

import copy
import dataclasses
import math
import shutil
import typing

import pytest
import tiny_training

from genrec import config, settings_check
from genrec.config import ConfigError
from genrec.evaluation import evaluate
from genrec.settings import LARGEST, PATH
from genrec.training import train

SETTINGS = {name: (kind, declared) for name, kind, declared in settings_check.flat_fields(config.Experiment)}
NUMBERS = {name: kind for name, (kind, _) in SETTINGS.items() if kind in (int, float, tuple[int, ...])}
TEXTS = {name: declared for name, (kind, declared) in SETTINGS.items() if kind in (str, tuple[str, ...])}
# The only settings that may be negative, infinite, or larger than what fits into 31 bits.
# Of the mesh, only one may be -1, which is mesh.data by default.
NEGATIVE = {"data.min_rating", "mesh.data", "evaluation.history"}
INFINITE = {"data.min_rating"}
HUGE = {"data.min_rating", "training.peak_flops", "sasrec.training.peak_flops"}


def with_setting(name: str, value: object) -> config.Experiment:
    experiment = config.Experiment()
    *sections, own = name.split(".")
    section: object = experiment
    for part in sections:
        section = getattr(section, part)
    setattr(section, own, value)
    return experiment


def is_refused(name: str, value: object) -> bool:
    """Whether the check refuses the value; it must name the setting then."""
    kind = SETTINGS[name][0]
    experiment = with_setting(name, (value,) if typing.get_origin(kind) is tuple else value)
    try:
        settings_check.check(experiment)
    except ConfigError as error:
        assert name in str(error) and len(str(error)) < 400 and "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_its_range_is_refused_by_name(name):
    kind, declared = SETTINGS[name]
    assert is_refused(name, math.nan)
    assert is_refused(name, math.inf) == is_refused(name, -math.inf) == (name not in INFINITE)
    assert is_refused(name, 10**12 if kind is not float else 1e12) == (name not in HUGE)
    assert is_refused(name, -1) == (name not in NEGATIVE)
    lowest = declared.at_least if declared.at_least is not None else declared.above
    assert lowest is not None, "declare the smallest value"
    # `also` and the bound itself are not out of range; settings that restrict each other may refuse them, too.
    if lowest > 0 or declared.above == 0:
        assert is_refused(name, 0)
    assert is_refused(name, True) and is_refused(name, "1") and is_refused(name, None)


@pytest.mark.parametrize("name", [name for name, kind in NUMBERS.items() if kind is not float])
def test_a_whole_number_has_no_fraction(name):
    assert is_refused(name, 1.5)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_one_of_its_choices_or_says_what_it_is(name):
    declared = TEXTS[name]
    assert declared.choices or declared.text
    if declared.choices or declared.pattern:
        assert is_refused(name, "nothing like it")
    assert is_refused(name, 3)


def test_every_setting_is_declared_and_documented():
    for section in (config.Experiment, config.SasRec, config.MultiStage):
        for field in dataclasses.fields(section):
            assert "setting" in field.metadata or field.default_factory is not dataclasses.MISSING, field.name
    assert all(len(declared.help) > 5 for _, declared in SETTINGS.values())
    assert len(SETTINGS) > 150


@pytest.mark.parametrize(
    "name, value, word",
    [
        ("semantic_ids.method", "rqvea", "Did you mean rqvae"),
        ("multi_stage.sources", ("generator", "most-popular"), "Did you mean most popular"),
        ("semantic_ids.codes", (256, "256"), "each a whole number"),
        ("semantic_ids.codes", (), "1 or more"),
        ("semantic_ids.codes", [256, 256], "a tuple"),
        ("semantic_ids.hidden", (64, 0), "from 1 to"),
        ("evaluation.cutoffs", (), "1 or more"),
        ("evaluation.cutoffs", (0, 10), "from 1 to"),
        ("evaluation.cutoffs", (60, 70), "beams=50"),
        ("evaluation.max_beams", 20, "beams=50"),
        ("training.warmup_steps", 4000, "steps=4000"),
        ("sasrec.training.steps", 100, "warmup_steps=400"),
        ("sasrec.model.position_max_distance", 16, "position_buckets=32"),
        ("sasrec.model.frequency_filter", 0.7, "architecture=bert"),
        ("sasrec.model.architecture", "brt", "Did you mean bert"),
        ("training.best_metric", "ndgc@10", "ndcg"),
        ("model.dropout", 1.0, "below 1"),
        ("model.position_max_distance", 16, "position_buckets=32"),
        ("model.gated_mlp", 1, "true or false"),
        ("data.test_fraction", 0.9, "validation_fraction=0.1"),
        ("data.time_format", "%s", "strptime cannot read it.*'s'"),
        ("data.time_format", "%d.%m. %H:%M", "no year"),
        ("mesh.fsdp", -1, "only one"),
        ("multi_stage.scoring.max_share", 0.5, "share_of"),
        ("multi_stage.weights", ("generator:1",), "NAME=NUMBER"),
        ("multi_stage.scoring.boosts", ("media_type=podcast",), "CONDITION:NUMBER"),
        ("prompts.columns", ("genre:topic",), "COLUMN:ROLE"),
    ],
)
def test_the_message_says_what_is_allowed(name, value, word):
    with pytest.raises(ConfigError, match=word) as error:
        settings_check.check(with_setting(name, value))
    assert name in str(error.value)


def test_names_that_are_no_settings_are_refused_with_the_nearest():
    experiment = config.Experiment()
    experiment.training.step = 5
    with pytest.raises(ConfigError, match=r"training\.step\b.*Did you mean steps"):
        settings_check.check(experiment)
    experiment = config.Experiment(model={"width": 64})
    with pytest.raises(ConfigError, match=r"model=.*config\.Model"):
        settings_check.check(experiment)


@pytest.mark.parametrize(
    "form", ["%Y%m%d", "%m/%d/%y %I:%M %p", "%d.%m.%Y %H:%M:%S.%f %z", "%a %b %d %H:%M:%S %Z %Y", "%G-W%V-%u", "%Y-%j"]
)
def test_formats_of_times_that_strptime_reads_are_accepted(form):
    settings_check.check(with_setting("data.time_format", form))
    both = config.Data(time_format=form, time_unit="s")
    with pytest.raises(ConfigError, match="time_format and .*time_unit"):
        settings_check.check(both)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigError) as error:
        settings_check.check(with_setting("semantic_ids.method", "r" * 10_000))
    assert len(str(error.value)) < 400


def test_a_section_is_checked_with_its_name():
    with pytest.raises(ConfigError, match=r"data\.k_core=-1"):
        settings_check.check(config.Data(k_core=-1), "data")


def test_every_path_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    experiment = config.Experiment()
    paths = [name for name, declared in TEXTS.items() if declared.text == PATH]
    assert {"data.interactions", "data.folder", "embeddings.vectors", "prompts.pretrained"} <= set(paths)
    for name in paths:
        section, own = name.split(".")
        setattr(getattr(experiment, section), own, "~/x")
    experiment.data.users = "gs://bucket/~/users.csv"
    settings_check.expand_user(experiment)
    found = {name: getattr(getattr(experiment, name.split(".")[0]), name.split(".")[1]) for name in paths}
    assert found == dict.fromkeys(paths, "/home/me/x") | {"data.users": "gs://bucket/~/users.csv"}


SMALLEST = dataclasses.replace(
    tiny_training.EXPERIMENT,
    model=config.Model(
        width=1,
        encoder_layers=1,
        decoder_layers=1,
        heads=1,
        head_width=1,
        mlp=1,
        dropout=0.0,
        position_buckets=4,
        position_max_distance=3,
        user_tokens=1,
    ),
    training=config.Training(
        max_history=1,
        row_targets=1,
        batch_targets=1,
        steps=1,
        warmup_steps=0,
        weight_decay=0.0,
        gradient_clip=0.0,
        ema=0.0,
        validate_every=1,
        checkpoint_every=1,
        keep_latest=1,
        validation_users=1,
        log_every=1,
        best_metric="recall@1",
    ),
    evaluation=config.Evaluation(beams=1, certify=1, batch=1, cutoffs=(1,)),
)
LARGEST_COUNTS = copy.deepcopy(tiny_training.EXPERIMENT)
LARGEST_COUNTS.seed = LARGEST
LARGEST_COUNTS.training = dataclasses.replace(
    LARGEST_COUNTS.training,
    batch_targets=LARGEST,
    steps=2,
    warmup_steps=1,
    validate_every=LARGEST,
    checkpoint_every=LARGEST,
    keep_best=LARGEST,
    keep_latest=LARGEST,
    validation_users=LARGEST,
    patience=LARGEST,
    log_every=LARGEST,
    gradient_clip=float(LARGEST),
    weight_decay=0.0,
)
LARGEST_COUNTS.evaluation = config.Evaluation(beams=200, certify=LARGEST, batch=LARGEST, cutoffs=(10, LARGEST))


@pytest.mark.parametrize("experiment", [SMALLEST, LARGEST_COUNTS], ids=["smallest", "largest"])
def test_extreme_settings_that_are_allowed_run(experiment, tiny_inputs, tmp_path, capsys):
    workdir = shutil.copytree(tiny_inputs, tmp_path / "work")
    train.train(experiment, workdir)
    evaluate.evaluate(experiment, workdir)
    assert "recall@" in capsys.readouterr().out


def test_cutoffs_above_the_usual_ones_are_shown(tiny_trained, tmp_path, capsys):
    workdir = shutil.copytree(tiny_trained, tmp_path / "work")
    cfg = dataclasses.replace(tiny_training.EXPERIMENT.evaluation, beams=20, cutoffs=(15, 20))
    evaluate.evaluate(dataclasses.replace(tiny_training.EXPERIMENT, evaluation=cfg), workdir)
    shown = capsys.readouterr().out
    assert "recall@15" in shown and "recall@10" not in shown
