"""SASRec: its losses against each prefix alone, its training, its lists and its scores."""

import dataclasses
import functools
import shutil

import jax
import numpy as np
import pytest
import tiny_training
from flax import nnx

from genrec import artifacts, config, sharding
from genrec.data import dataset as datasets
from genrec.data.prepare import prepare
from genrec.decoding import loaded_model
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.evaluation import baselines, metrics
from genrec.evaluation.evaluator import item_ranks
from genrec.input_pipeline.examples import Segment, histories, pack
from genrec.models import checkpoints
from genrec.models import sasrec as sasrec_model
from genrec.models.sasrec import SASRec
from genrec.ranking.model_sources import SasRec
from genrec.training import train

ITEMS = 11
MODEL = config.Model(width=16, encoder_layers=2, heads=2, head_width=8, mlp=32, position_buckets=8)
EXPERIMENT = config.Experiment(
    data=tiny_training.EXPERIMENT.data,
    sasrec=config.SasRec(
        model=MODEL, training=tiny_training.changed(validate_every=6, validation_users=0, log_every=6).training
    ),
    evaluation=tiny_training.EXPERIMENT.evaluation,
)


@functools.cache
def model() -> SASRec:
    return SASRec(MODEL, ITEMS, nnx.Rngs(0))


def losses(examples) -> np.ndarray:
    return np.asarray(jitted("losses")(nnx.state(model()), examples))


def scores(rows) -> np.ndarray:
    return np.asarray(jitted("scores")(nnx.state(model()), rows))


@functools.cache
def jitted(method: str):
    graphdef = nnx.graphdef(model())
    return jax.jit(lambda params, inputs: getattr(nnx.merge(graphdef, params), method)(inputs))


def test_losses_of_packed_windows_are_those_of_each_history_alone():
    random = np.random.default_rng(0)
    first, second, third = (random.integers(0, ITEMS, n) for n in (5, 3, 6))
    # The third is a later window: its first item is history only.
    rows = [[Segment("a", first, 0, True), Segment("b", second, 0, True)], [Segment("c", third, 1, True)]]
    examples = pack(rows, sasrec_model.tokenizer(ITEMS), 10, 9)
    found = losses(examples)[..., 0]
    expected = {(0, 0): (first, 0), (0, 5): (second, 0), (1, 0): (third, 1)}
    for (row, start), (items, skipped) in expected.items():
        for target in range(skipped, len(items)):
            alone = histories(["x"], [items[:target]], sasrec_model.tokenizer(ITEMS), 10)
            likelihood = scores(alone)[0, items[target]]
            np.testing.assert_allclose(found[row, start + target - skipped], -likelihood, rtol=1e-4, atol=1e-5)


def test_scores_are_a_distribution_over_the_catalogue():
    rows = histories(["a", "b"], [np.array([3]), np.array([1, 2, 3])], sasrec_model.tokenizer(ITEMS), 10)
    found = scores(rows)
    assert found.shape == (2, ITEMS)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)


def test_lists_are_the_sorted_scores_on_any_mesh():
    rows = histories([*"abcd"], [np.arange(n) for n in (1, 4, 2, 5)], sasrec_model.tokenizer(ITEMS), 10)
    expected = scores(rows)
    params = nnx.state(model())
    for mesh in (None, sharding.make_mesh(config.Mesh(2, 2, 2))):
        retriever = ExhaustiveRetriever(nnx.graphdef(model()), ITEMS, ITEMS + 2, mesh)
        placed = params if mesh is None else jax.device_put(params, sharding.named(mesh))
        found = jax.device_get(retriever(placed, rows))
        np.testing.assert_array_equal(found.items[:, :ITEMS], np.argsort(-expected, axis=1, kind="stable"))
        np.testing.assert_allclose(found.scores[:, :ITEMS], -np.sort(-expected, axis=1), rtol=1e-4)
        assert (found.items[:, ITEMS:] == -1).all() and (found.bound == -np.inf).all()
        exclude = [np.array([3, 3]), np.zeros(0, int), np.arange(ITEMS), np.array([0, ITEMS - 1])]
        found = jax.device_get(retriever(placed, rows, exclude))
        for row, excluded in enumerate(exclude):
            order = [item for item in np.argsort(-expected[row], kind="stable") if item not in excluded]
            assert found.items[row].tolist() == [*order, *[-1] * (ITEMS + 2 - len(order))]
            assert (np.isfinite(found.scores[row]) == (found.items[row] >= 0)).all()
        some = np.array([[0, 3], [10, 2], [5, 5], [1, 0]])
        np.testing.assert_allclose(
            retriever.score(placed, rows, some), np.take_along_axis(expected, some, axis=1), rtol=1e-4
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trained in two parts: stopped after 9 steps, then resumed from 6, the last checkpoint."""
    workdir = tmp_path_factory.mktemp("sasrec")
    prepare(EXPERIMENT.data, workdir / "dataset")
    stopped = dataclasses.replace(EXPERIMENT.sasrec.training, stop_after=9)
    train.train_sasrec(dataclasses.replace(EXPERIMENT, sasrec=config.SasRec(MODEL, stopped)), workdir)
    assert checkpoints.steps(workdir / "sasrec") == [6]
    train.train_sasrec(EXPERIMENT, workdir)
    return workdir


def test_training_learns_and_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
    shutil.copytree(finished / "dataset", tmp_path / "dataset")
    train.train_sasrec(EXPERIMENT, tmp_path)
    ours, others = (jax.tree.leaves(loaded_model.load_sasrec(path, "12").params) for path in (finished, tmp_path))
    for one, other in zip(ours, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_best_checkpoint_is_a_baseline_and_its_recall_is_that_of_the_validation(finished):
    sasrec = SasRec.load(finished, 10, 16)
    dataset = datasets.Dataset(finished / "dataset")
    found = baselines.recommend(sasrec, dataset, "validation", 10, 6)
    split = dataset.split("validation")
    records = split.read(np.arange(len(split)))
    ranks = item_ranks(found.items, np.array([record.items[-1] for record in records]))
    store = checkpoints.Checkpoints(finished / "sasrec")
    assert metrics.compute(ranks, (10,))["ndcg@10"] == pytest.approx(store.best()[1], rel=1e-5)
    store.close()


def test_a_checkpoint_of_other_data_is_refused(finished, tmp_path):
    shutil.copytree(finished / "sasrec", tmp_path / "sasrec")
    prepare(dataclasses.replace(EXPERIMENT.data, k_core=0), tmp_path / "dataset")
    with pytest.raises(artifacts.ArtifactError, match="another dataset"):
        loaded_model.load_sasrec(tmp_path)
