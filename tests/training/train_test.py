"""Training on a tiny work directory, through the stage that scripts call."""

import importlib.util
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from forked_scripts import Script
from tiny_training import EXPERIMENT, changed, lines

from genrec import artifacts, config, sharding
from genrec.decoding import loaded_model
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.examples import histories
from genrec.models import checkpoints, load
from genrec.training import metric_logs, optimizer, train

ROOT = Path(__file__).parents[2]
SPEED = {f"train/{name}" for name in ("step_seconds", "targets_per_second", "tokens_per_second", "compilations")}


@pytest.fixture
def workdir(tiny_inputs, tmp_path):
    return shutil.copytree(tiny_inputs, tmp_path / "work")


@pytest.fixture
def with_all_inputs(everything_known):
    """Gives an experiment features, vectors, prompts and texts."""

    def give(experiment):
        experiment.context = everything_known()
        experiment.prompts = config.Prompts(
            columns=("media_type:kind", "genre:about", "title:words"), pieces=200, longest=12, history=4, texts=True
        )
        return experiment

    return give


@pytest.mark.parametrize("reading", ["every", "last", "everything"])
def test_resumed_equals_uninterrupted(tiny_inputs, tiny_trained, tmp_path, with_all_inputs, reading):
    def experiment(**training):
        if reading == "everything":
            return with_all_inputs(changed(**training))
        experiment = changed(targets=reading, **training)
        experiment.mesh = config.Mesh() if reading == "last" else experiment.mesh  # eight devices
        return experiment

    whole, parts = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("whole", "parts"))
    if experiment() == EXPERIMENT:
        whole = tiny_trained
    else:
        train.train(experiment(), whole)
    # Stopped between checkpoints, at a checkpoint, and just after one, which the other readings are too.
    for stop_after in (3, 8, 9, 0) if reading == "every" else (9, 0):
        train.train(experiment(stop_after=stop_after), parts)
    expected, found = load.load(whole, "latest"), load.load(parts, "latest")
    assert expected.step == found.step == 12
    jax.tree.map(np.testing.assert_array_equal, expected.params, found.params)
    for group in ("train", "validation"):
        expected_lines, found_lines = lines(whole, group), lines(parts, group)
        assert expected_lines.keys() == found_lines.keys()
        for step, numbers in expected_lines.items():
            same = {name: value for name, value in numbers.items() if name not in SPEED}
            assert same.items() <= found_lines[step].items()


def test_context_and_prompts_train_the_same_on_any_mesh(tiny_inputs, tmp_path, with_all_inputs):
    curves = []
    for number, mesh in enumerate((config.Mesh(1, 1, 1), config.Mesh(2, 2, 2))):
        workdir = shutil.copytree(tiny_inputs, tmp_path / f"mesh{number}")
        experiment = with_all_inputs(changed(stop_after=3, log_every=1))
        experiment.mesh, experiment.model.mlp = mesh, 32
        train.train(experiment, workdir)
        curves.append([[row["train/loss"], row["train/text_loss"]] for row in lines(workdir, "train").values()])
        for row in lines(workdir, "train").values():
            assert row["train/objective"] > row["train/loss"]  # with texts, and with weights of the prompts' targets
    assert len(curves[0]) == 3
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=2e-3)


def test_context_and_prompts_belong_to_a_run(workdir, untrained, with_all_inputs):
    untrained(workdir, with_all_inputs(changed()))
    for part, name, value in (("context", "dropout", 0.5), ("prompts", "examples", 1.0), ("context", "vector", False)):
        experiment = with_all_inputs(changed())
        setattr(getattr(experiment, part), name, value)
        with pytest.raises(artifacts.ArtifactError, match=r"another run: .* was "):
            train.train(experiment, workdir)
    with pytest.raises(artifacts.ArtifactError, match="another run"):
        train.train(changed(), workdir)


def test_vectors_of_sasrec_are_read_and_those_of_another_refused(workdir):
    experiment = changed(steps=4, max_history=3)
    experiment.context = config.Context(sequential=True)
    with pytest.raises(config.ConfigError, match="context.sequential"):
        train.train(experiment, workdir)
    experiment.sasrec = config.SasRec(
        model=config.SasRecModel(width=8, encoder_layers=1, heads=1, head_width=8, mlp=8),
        training=changed(steps=4).training,
    )
    train.train_sasrec(experiment, workdir)
    train.train(experiment, workdir)
    loaded = loaded_model.load(workdir)
    items = [np.array([5, 7, 1, 2, 3]), np.array([1, 2, 3]), np.array([9, 1, 2, 3])]
    (vectors,) = loaded.histories(["a", "b", "c"], items).soft
    beyond = loaded.histories(["a"], items[:1]).tokens.shape[1]
    assert vectors.places[:, 0].tolist() == [0, beyond, 0]  # who has no earlier items has no token
    graphdef, params, record, _ = load.load(workdir / checkpoints.SASREC)
    tokens = item_histories.tokenizer(record.sizes[0])
    vectors_of = jax.jit(lambda histories: nnx.merge(graphdef, params).vectors(histories))
    for row, earlier in ((0, [5, 7]), (2, [9])):
        expected = vectors_of(histories(["x"], [np.array(earlier)], tokens, 6))[0]
        np.testing.assert_allclose(vectors.vectors[row, 0], expected, rtol=1e-4, atol=1e-5)
    # Another SASRec has other vectors.
    shutil.rmtree(workdir / checkpoints.SASREC)
    experiment.seed = 1
    train.train_sasrec(experiment, workdir)
    with pytest.raises(artifacts.ArtifactError, match="another SASRec"):
        loaded_model.load(workdir)


@pytest.fixture(scope="module")
def learned(tiny_inputs, tmp_path_factory):
    """A work directory after 60 steps, with a validation each ten and a trace of some steps; not to be changed."""
    workdir = shutil.copytree(tiny_inputs, tmp_path_factory.mktemp("learned") / "work")
    train.train(changed(steps=60, validate_every=10, profile_steps=2, peak_flops=1e12), workdir)
    return workdir


def test_training_learns_and_keeps_the_best_and_the_latest(learned):
    losses = [row["train/loss"] for row in lines(learned, "train").values()]
    assert losses[-1] < losses[0] - 0.5
    assert [row["train/objective"] for row in lines(learned, "train").values()] == losses
    validations = {step: row["validation/ndcg@10"] for step, row in lines(learned, "validation").items()}
    assert validations.keys() == {10, 20, 30, 40, 50, 60}
    best = max(validations, key=lambda step: (validations[step], -step))
    assert load.load(learned, "best").step == best
    assert load.load(learned, "latest").step == 60
    assert list((learned / "tensorboard").iterdir())
    with pytest.raises(artifacts.ArtifactError, match="checkpoint 7"):
        load.load(learned, "7")


def test_nothing_is_compiled_after_the_first_steps(learned):
    compilations = {step: row["train/compilations"] for step, row in lines(learned, "train").items()}
    assert compilations.pop(2) > 0
    assert compilations.keys() == set(range(4, 61, 2)) and set(compilations.values()) == {0}


def test_a_trace_of_some_steps_is_recorded(learned):
    assert list((learned / "profile").rglob("*.xplane.pb"))
    assert all(0 < row["train/model_flops_utilization"] < 1 for row in lines(learned, "train").values())


def test_a_finished_run_is_not_trained_again(tiny_trained, tmp_path):
    workdir = shutil.copytree(tiny_trained, tmp_path / "work")
    before = (workdir / "metrics.jsonl").read_text()
    train.train(EXPERIMENT, workdir)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_patience_stops_early_for_good(workdir):
    # A learning rate of almost nothing: no validation after the first is better.
    experiment = changed(learning_rate=1e-12, patience=2, steps=40, warmup_steps=0)
    train.train(experiment, workdir)
    assert list(lines(workdir, "validation")) == [4, 8, 12]
    train.train(experiment, workdir)
    assert list(lines(workdir, "validation")) == [4, 8, 12]


def test_a_checkpoint_of_another_run_is_refused(tiny_trained):
    with pytest.raises(artifacts.ArtifactError, match=r"training.learning_rate was 0.01, is 0.02"):
        train.train(changed(learning_rate=0.02), tiny_trained)


def test_semantic_ids_of_another_dataset_are_refused(workdir, tokenized):
    tokenized(workdir, EXPERIMENT, made_for="0123456789abcdef")
    with pytest.raises(artifacts.ArtifactError, match="semantic_ids.*another dataset"):
        train.train(EXPERIMENT, workdir)


def test_a_loss_that_is_not_finite_stops_with_advice_and_saves_nothing(workdir):
    with pytest.raises(metric_logs.TrainingError, match="learning_rate"):
        train.train(changed(learning_rate=1000.0, weight_decay=1000.0, gradient_clip=0.0, warmup_steps=0), workdir)
    with pytest.raises(artifacts.ArtifactError, match="checkpoint"):
        load.load(workdir)


def test_adafactor_and_the_inverse_square_root_train(workdir):
    train.train(changed(optimizer="adafactor", schedule="inverse_sqrt", steps=40, validate_every=40), workdir)
    losses = [row["train/loss"] for row in lines(workdir, "train").values()]
    assert losses[-1] < losses[0] - 0.3


def test_accumulating_gradients_changes_nothing(tiny_inputs, tmp_path):
    found = []
    for parts in (1, 4):
        workdir = shutil.copytree(tiny_inputs, tmp_path / str(parts))
        experiment = changed(accumulate=parts, row_targets=7, batch_targets=56, steps=4)
        experiment.model.dropout = 0.0  # every part draws its own
        train.train(experiment, workdir)
        found.append(load.load(workdir, "latest").params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize("metric", ["ndgc@10", "ndcg@20"])
def test_a_metric_that_validation_does_not_compute_is_refused_before_any_work(workdir, metric):
    with pytest.raises(config.ConfigError, match="ndcg@10"):
        train.train(changed(best_metric=metric), workdir)
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize("name", ["keep_latest", "keep_best"])
def test_a_run_keeps_checkpoints(workdir, name):
    with pytest.raises(config.ConfigError, match=name):
        train.train(changed(**{name: 0}), workdir)


def test_other_beams_are_another_run(tiny_trained):
    experiment = changed()
    experiment.evaluation.beams = 20
    with pytest.raises(artifacts.ArtifactError, match=r"validation.beams was 10, is 20"):
        train.train(experiment, tiny_trained)


def test_validation_without_items_of_the_history_is_another_run(tiny_trained):
    experiment = changed()
    experiment.evaluation.exclude_history = True
    with pytest.raises(artifacts.ArtifactError, match=r"validation.exclude_history was False, is True"):
        train.train(experiment, tiny_trained)


def test_schedules():
    cosine = optimizer.schedule(config.Training(learning_rate=0.1, warmup_steps=10, steps=110))
    np.testing.assert_allclose([cosine(5), cosine(10), cosine(60), cosine(110)], [0.05, 0.1, 0.05, 0], atol=1e-7)
    root = optimizer.schedule(config.Training(learning_rate=0.1, warmup_steps=10, steps=110, schedule="inverse_sqrt"))
    np.testing.assert_allclose([root(5), root(10), root(40)], [0.05, 0.1, 0.05], atol=1e-7)
    for mistake in ({"schedule": "linear"}, {"optimizer": "sgd"}, {"warmup_steps": 20, "steps": 10}):
        with pytest.raises(config.ConfigError, match=next(iter(mistake))):
            optimizer.make(config.Training(**mistake))


@pytest.mark.torch
def test_a_training_starts_without_torch_which_the_library_for_its_events_would_import(tmp_path):
    assert importlib.util.find_spec("torch")
    (tmp_path / "seen.py").write_text("import sys, genrec.training.train; print('torch' in sys.modules)")
    script = Script(tmp_path / "logs", str(tmp_path / "seen.py"))
    assert script.wait() == 0 and script.output == "False\n"


def test_validation_does_not_depend_on_the_mesh(tiny_trained, workdir):
    experiment = changed(stop_after=4)
    experiment.mesh = config.Mesh(2, 2, 2)
    train.train(experiment, workdir)
    one, several = (lines(folder, "validation")[4] for folder in (tiny_trained, workdir))
    assert one == pytest.approx(several, abs=1e-6)
    assert sharding.parts(sharding.make_mesh(config.Mesh(2, 2, 2)), "batch") == 4
