"""Every config and variant builds, and holds what the dataclasses declare."""

import importlib.util
import re
import types
from pathlib import Path

import pytest

from genrec import config, settings_check
from genrec.training import run_setup

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
ARGUMENTS = {
    "quickstart": ("", "tiny"),
    "streaming": ("", "history", "context", "soft", "both", "tiny"),
    "amazon_beauty": ("", "prompts", "sasrec", "paper"),
    "amazon_reviews": ("beauty", "sports", "Toys_and_Games", "sports,sasrec", "sports,paper", "toys,paper"),
    "public_data": (*config.FOLDER_SOURCES, "movielens,tiny", "otto,tiny"),
}


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_config_is_tested():
    assert sorted(ARGUMENTS) == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_the_default_builds(name):
    settings_check.check(load(name).get_config())


@pytest.mark.parametrize(("name", "argument"), [(name, arg) for name, args in ARGUMENTS.items() for arg in args])
def test_every_variant_builds_with_valid_settings(name, argument):
    experiment = load(name).get_config(argument)
    assert type(experiment) is config.Experiment
    run_setup.check(experiment)
    run_setup.check_baseline(experiment)
    assert max(experiment.evaluation.cutoffs) <= experiment.evaluation.beams


@pytest.mark.parametrize("name", CONFIGS)
def test_the_docstring_gives_the_command(name):
    assert f"--config=configs/{name}.py" in load(name).__doc__


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("quickstart", "tyni"),
        ("amazon_beauty", "papre"),
        ("amazon_reviews", "sprots"),
        ("amazon_reviews", "b"),
        ("public_data", "movielenz"),
    ],
)
def test_a_misspelled_variant_is_refused_with_the_choices(name, argument):
    with pytest.raises(config.ConfigError, match=rf"configs/{name}.py.*'{argument}'"):
        load(name).get_config(argument)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_variants_in_the_documentation_exist(path):
    for name, variant in re.findall(r"configs/(\w+)\.py:([a-z][\w,]*)", path.read_text(encoding="utf-8")):
        assert variant in ARGUMENTS[name]


@pytest.mark.parametrize("name, argument", [("amazon_beauty", "paper"), ("amazon_reviews", "toys,paper")])
def test_the_paper_variant_is_the_papers_setting(name, argument):
    experiment = load(name).get_config(argument)
    assert experiment.training.targets == "last" and not experiment.model.cross_position_bias
    assert (experiment.model.encoder_layers, experiment.model.decoder_layers, experiment.model.mlp) == (4, 4, 1024)
    assert (experiment.training.max_history, experiment.training.batch_targets) == (20, 256)
    assert experiment.semantic_ids.method == "rqvae" and experiment.semantic_ids.codes == (256, 256, 256)
