"""Training on a tiny work directory, through the stage that scripts call."""

import copy
import json
import shutil

import jax
import numpy as np
import pytest

from genrec import artifacts, config
from genrec.data import dataset as datasets
from genrec.data.prepare import prepare
from genrec.models import saved
from genrec.semantic_ids import codes
from genrec.training import loop, optimizer

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=80)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(
        max_history=6,
        row_targets=12,
        batch_targets=96,
        steps=12,
        warmup_steps=2,
        learning_rate=1e-2,
        validate_every=4,
        validation_users=32,
        log_every=2,
    ),
    evaluation=config.Evaluation(beams=10, batch=16, cutoffs=(10,)),
)
SPEED = {f"train/{name}" for name in ("step_seconds", "targets_per_second", "tokens_per_second", "compilations")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A work directory with a data set and semantic IDs."""
    workdir = tmp_path_factory.mktemp("inputs")
    prepare(EXPERIMENT.data, workdir / "dataset")
    dataset = datasets.Dataset(workdir / "dataset")
    every = np.array(list(np.ndindex(8, 8, 2)), np.uint16)
    ids = codes.SemanticIds(np.random.default_rng(0).permutation(every)[: len(dataset.catalogue)], (8, 8, 2))
    made_from = {datasets.KIND: dataset.fingerprint}
    folder = workdir / "semantic_ids"
    with artifacts.writing(folder, codes.KIND, "test", config=EXPERIMENT.semantic_ids, inputs=made_from) as draft:
        ids.save(draft.path)
        draft.fingerprint = ids.fingerprint
    return workdir


@pytest.fixture
def workdir(inputs, tmp_path):
    return shutil.copytree(inputs, tmp_path / "work")


def changed(**training):
    experiment = copy.deepcopy(EXPERIMENT)
    for name, value in training.items():
        setattr(experiment.training, name, value)
    return experiment


def lines(workdir, group):
    """Step -> numbers of metrics.jsonl."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if f"{group}/loss" in row or f"{group}/ndcg@10" in row}


@pytest.mark.parametrize("targets", ["every", "last"])
def test_resumed_equals_uninterrupted(inputs, tmp_path, targets):
    whole, parts = (shutil.copytree(inputs, tmp_path / name) for name in ("whole", "parts"))
    loop.train(changed(targets=targets), whole)
    # Stopped between checkpoints, at a checkpoint, and just after one.
    for stop_after in (3, 8, 9, 0):
        loop.train(changed(targets=targets, stop_after=stop_after), parts)
    expected, found = saved.load(whole, "latest"), saved.load(parts, "latest")
    assert expected.step == found.step == 12
    jax.tree.map(np.testing.assert_array_equal, expected.params, found.params)
    for group in ("train", "validation"):
        expected_lines, found_lines = lines(whole, group), lines(parts, group)
        assert expected_lines.keys() == found_lines.keys()
        for step, numbers in expected_lines.items():
            same = {name: value for name, value in numbers.items() if name not in SPEED}
            assert same.items() <= found_lines[step].items()


def test_training_learns_and_keeps_the_best_and_the_latest(workdir):
    loop.train(changed(steps=60, validate_every=10), workdir)
    losses = [row["train/loss"] for row in lines(workdir, "train").values()]
    assert losses[-1] < losses[0] - 0.5
    validations = {step: row["validation/ndcg@10"] for step, row in lines(workdir, "validation").items()}
    assert validations.keys() == {10, 20, 30, 40, 50, 60}
    best = max(validations, key=lambda step: (validations[step], -step))
    assert saved.load(workdir, "best").step == best
    assert saved.load(workdir, "latest").step == 60
    assert list((workdir / "tensorboard").iterdir())
    with pytest.raises(artifacts.ArtifactError, match="no checkpoint '7'"):
        saved.load(workdir, "7")


def test_a_finished_run_is_not_trained_again(workdir):
    loop.train(EXPERIMENT, workdir)
    before = (workdir / "metrics.jsonl").read_text()
    loop.train(EXPERIMENT, workdir)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_patience_stops_early_for_good(workdir):
    # A learning rate of almost nothing: no validation after the first is better.
    experiment = changed(learning_rate=1e-12, patience=2, steps=40, warmup_steps=0)
    loop.train(experiment, workdir)
    assert list(lines(workdir, "validation")) == [4, 8, 12]
    loop.train(experiment, workdir)
    assert list(lines(workdir, "validation")) == [4, 8, 12]


def test_a_checkpoint_of_another_run_is_refused(workdir):
    loop.train(changed(stop_after=4), workdir)
    with pytest.raises(artifacts.ArtifactError, match=r"training.learning_rate was 0.01, is 0.02"):
        loop.train(changed(learning_rate=0.02), workdir)


def test_semantic_ids_of_another_dataset_are_refused(workdir):
    manifest = workdir / "semantic_ids" / artifacts.MANIFEST
    content = json.loads(manifest.read_text())
    content["inputs"][datasets.KIND] = "0123456789abcdef"
    manifest.write_text(json.dumps(content))
    with pytest.raises(artifacts.ArtifactError, match="made for another dataset"):
        loop.train(EXPERIMENT, workdir)


def test_a_loss_that_is_no_number_stops_with_advice_and_saves_nothing(workdir):
    with pytest.raises(loop.TrainingError, match="learning_rate"):
        loop.train(changed(learning_rate=1e30, gradient_clip=0.0, warmup_steps=0), workdir)
    with pytest.raises(artifacts.ArtifactError, match="no finished checkpoint"):
        saved.load(workdir)


def test_adafactor_and_the_inverse_square_root_train(workdir):
    loop.train(changed(optimizer="adafactor", schedule="inverse_sqrt", steps=40, validate_every=40), workdir)
    losses = [row["train/loss"] for row in lines(workdir, "train").values()]
    assert losses[-1] < losses[0] - 0.3


def test_accumulating_gradients_changes_nothing(inputs, tmp_path):
    found = []
    for parts in (1, 4):
        workdir = shutil.copytree(inputs, tmp_path / str(parts))
        experiment = changed(accumulate=parts, row_targets=7, batch_targets=56, steps=4)
        experiment.model.dropout = 0.0  # every part draws its own
        loop.train(experiment, workdir)
        found.append(saved.load(workdir, "latest").params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize("metric", ["ndgc@10", "ndcg@20"])
def test_a_metric_that_validation_does_not_give_is_refused_before_any_work(workdir, metric):
    with pytest.raises(config.ConfigError, match="ndcg@10"):
        loop.train(changed(best_metric=metric), workdir)
    assert not (workdir / "checkpoints").exists()


def test_other_beams_are_another_run(workdir):
    experiment = changed(stop_after=4)
    loop.train(experiment, workdir)
    experiment.evaluation.beams = 20
    with pytest.raises(artifacts.ArtifactError, match=r"validation.beams was 10, is 20"):
        loop.train(experiment, workdir)


def test_schedules():
    cosine = optimizer.schedule(config.Training(learning_rate=0.1, warmup_steps=10, steps=110))
    np.testing.assert_allclose([cosine(5), cosine(10), cosine(60), cosine(110)], [0.05, 0.1, 0.05, 0], atol=1e-7)
    root = optimizer.schedule(config.Training(learning_rate=0.1, warmup_steps=10, steps=110, schedule="inverse_sqrt"))
    np.testing.assert_allclose([root(5), root(10), root(40)], [0.05, 0.1, 0.05], atol=1e-7)
    for mistake in ({"schedule": "linear"}, {"optimizer": "sgd"}, {"warmup_steps": 20, "steps": 10}):
        with pytest.raises(config.ConfigError, match=next(iter(mistake))):
            optimizer.make(config.Training(**mistake))
