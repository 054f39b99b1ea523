"""SASRec: its losses against PyTorch and against each prefix alone, its training, its lists and its scores."""

import dataclasses
import functools
import math
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
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.examples import Segment, histories, pack
from genrec.models import checkpoints
from genrec.models.sasrec import SASRec
from genrec.ranking.model_sources import SasRec
from genrec.training import train

ITEMS = 11
MAX_HISTORY = 9
MODELS = {
    name: config.SasRecModel(
        width=16, encoder_layers=2, heads=2, head_width=8, mlp=32, position_buckets=8, architecture=architecture,
        frequency_filter=share,
    )
    for name, architecture, share in (("t5", "t5", 0.0), ("bert", "bert", 0.0), ("filter", "bert", 0.7))
}  # fmt: skip
EXPERIMENT = config.Experiment(
    data=tiny_training.EXPERIMENT.data,
    sasrec=config.SasRec(
        model=MODELS["filter"],
        training=tiny_training.changed(targets="last", validate_every=6, validation_users=0, log_every=6).training,
    ),
    evaluation=tiny_training.EXPERIMENT.evaluation,
)


@functools.cache
def model(name: str, causal: bool = True) -> SASRec:
    made = SASRec(MODELS[name], ITEMS, nnx.Rngs(0), MAX_HISTORY, causal)
    # Layers count for more than at the start, and biases are not zero.
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + random.normal(0, 0.2, x.shape).astype(np.float32), nnx.state(made))
    return nnx.merge(nnx.graphdef(made), params)


def call(method: str, inputs, name: str, causal: bool = True) -> np.ndarray:
    return np.asarray(jitted(method, name, causal)(nnx.state(model(name, causal)), inputs))


@functools.cache
def jitted(method: str, name: str, causal: bool):
    graphdef = nnx.graphdef(model(name, causal))
    return jax.jit(lambda params, inputs: getattr(nnx.merge(graphdef, params), method)(inputs))


def logits_in_torch(params: dict, cfg: config.Model, items: np.ndarray):
    """Returns float64[1 + items, ITEMS] for one history: row t has the logits of the item after the first t.

    From the papers alone: a causal pre-norm transformer (Kang & McAuley 2018) with the RMSNorm, relative position bias
    and unscaled, bias-free attention of T5 (Raffel et al. 2020, section 2.1), and tied embeddings. Before the items
    stands the token of all users.
    """
    import torch

    def norm(x, of):
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * of["scale"]

    def bucket(distance: int) -> int:
        """Half of the buckets hold one distance each, the others grow like logarithms up to the largest distance."""
        exact = cfg.position_buckets // 2
        if distance < exact:
            return distance
        share = math.log(distance / exact) / math.log(cfg.position_max_distance / exact)
        return min(cfg.position_buckets - 1, exact + math.floor(share * (cfg.position_buckets - exact)))

    def tensors(tree):
        if isinstance(tree, dict):
            return {name: tensors(of) for name, of in tree.items()}
        return torch.tensor(np.asarray(tree), dtype=torch.float64)

    weights = tensors(params)
    tokens = torch.tensor([ITEMS, *items])
    x = weights["embedding"][tokens] * math.sqrt(cfg.width)
    steps = range(len(tokens))
    bias = torch.stack(
        [torch.stack([weights["position_bias"]["table"][bucket(max(q - k, 0))] for k in steps]) for q in steps]
    )
    future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    for layer in (weights["layers"]["unstacked"][number] for number in range(cfg.encoder_layers)):
        of = layer["attention"]
        normed = norm(x, of["norm"])
        q, k, v = ((normed @ of[name]["kernel"]).view(len(tokens), cfg.heads, -1) for name in ("query", "key", "value"))
        heads = []
        for head in range(cfg.heads):
            scores = (q[:, head] @ k[:, head].T + bias[:, :, head]).masked_fill(future, -math.inf)
            heads.append(torch.softmax(scores, dim=-1) @ v[:, head])
        x = x + torch.cat(heads, dim=-1) @ of["out"]["kernel"]
        of = layer["mlp"]
        normed = norm(x, of["norm"])
        hidden = normed @ of["into"]["kernel"]
        if cfg.gated_mlp:
            hidden = torch.nn.functional.gelu(hidden, approximate="tanh") * (normed @ of["gate"]["kernel"])
        else:
            hidden = torch.relu(hidden)
        x = x + hidden @ of["out"]["kernel"]
    return norm(x, weights["norm"]) @ weights["embedding"][:ITEMS].T


@pytest.mark.torch
@pytest.mark.parametrize("gated", [False, True])
def test_logits_and_losses_are_those_of_pytorch(gated):
    import torch

    cfg = dataclasses.replace(MODELS["t5"], gated_mlp=gated, position_max_distance=12)  # which longer histories exceed
    graphdef, params = nnx.split(SASRec(cfg, ITEMS, nnx.Rngs(0)))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.2 * random.normal(size=x.shape).astype(np.float32), params)
    users = [random.integers(0, ITEMS, n) for n in (17, 4, 9)]
    segments = [[Segment("a", users[0], 0, True)], [Segment("b", users[1], 0, True), Segment("c", users[2], 2, True)]]
    examples = pack(segments, item_histories.tokenizer(ITEMS), 20, 17)
    losses = jax.jit(lambda params: nnx.merge(graphdef, params).losses(examples)[..., 0])(params)
    rows = histories([*"abc"], users, item_histories.tokenizer(ITEMS), 20)
    scores = jax.jit(lambda params: nnx.merge(graphdef, params).scores(rows))(params)
    places = {0: (0, 0, 0), 1: (1, 0, 0), 2: (1, 4, 2)}  # of each user: row, first place, items that are no targets
    for user, (row, first, skipped) in places.items():
        logits = logits_in_torch(nnx.to_pure_dict(params), cfg, users[user])
        targets = torch.tensor(users[user])
        expected = torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="none")[skipped:]
        np.testing.assert_allclose(losses[row, first : first + len(expected)], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores[user], torch.log_softmax(logits[-1], dim=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_losses_of_packed_windows_are_those_of_each_history_alone(name):
    random = np.random.default_rng(0)
    first, second, third = (random.integers(0, ITEMS, n) for n in (5, 3, 6))
    # The third is a later window: its first item is history only.
    rows = [[Segment("a", first, 0, True), Segment("b", second, 0, True)], [Segment("c", third, 1, True)]]
    examples = pack(rows, item_histories.tokenizer(ITEMS), 10, 9)
    found = call("losses", examples, name)[..., 0]
    expected = {(0, 0): (first, 0), (0, 5): (second, 0), (1, 0): (third, 1)}
    for (row, start), (items, skipped) in expected.items():
        for target in range(skipped, len(items)):
            alone = histories(["x"], [items[:target]], item_histories.tokenizer(ITEMS), 10)
            likelihood = call("scores", alone, name)[0, items[target]]
            np.testing.assert_allclose(found[row, start + target - skipped], -likelihood, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_losses_of_one_target_an_example_are_those_of_serving(name):
    random = np.random.default_rng(0)
    segments = [random.integers(0, ITEMS, n) for n in (5, 1, 10)]
    rows = [
        [Segment("a", segments[0], 4, False), Segment("b", segments[1], 0, False)],
        [Segment("c", segments[2], 9, False)],
    ]
    found = call("losses", pack(rows, item_histories.tokenizer(ITEMS), 10, 2), name, causal=False)[..., 0]
    alone = histories([*"abc"], [items[:-1] for items in segments], item_histories.tokenizer(ITEMS), MAX_HISTORY, False)
    expected = call("scores", alone, name, causal=False)[range(3), [items[-1] for items in segments]]
    np.testing.assert_allclose([found[0, 0], found[0, 1], found[1, 0]], -expected, rtol=1e-4, atol=1e-5)


def test_scores_are_a_distribution_over_the_catalogue():
    rows = histories(["a", "b"], [np.array([3]), np.array([1, 2, 3])], item_histories.tokenizer(ITEMS), 10)
    found = call("scores", rows, "t5")
    assert found.shape == (2, ITEMS)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["t5", "filter"])
def test_lists_are_the_sorted_scores_on_any_mesh(name):
    rows = histories([*"abcd"], [np.arange(n) for n in (1, 4, 2, 5)], item_histories.tokenizer(ITEMS), 10)
    expected = call("scores", rows, name)
    params = nnx.state(model(name))
    for mesh in (None, sharding.make_mesh(config.Mesh(2, 2, 2))):
        retriever = ExhaustiveRetriever(nnx.graphdef(model(name)), ITEMS, ITEMS + 2, mesh)
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
    train.train_sasrec(dataclasses.replace(EXPERIMENT, sasrec=config.SasRec(MODELS["filter"], stopped)), workdir)
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
    ranks = np.concatenate([item_ranks(lists.items, targets) for targets, lists in found])
    store = checkpoints.Checkpoints(finished / "sasrec")
    assert metrics.compute(ranks, (10,))["ndcg@10"] == pytest.approx(store.best()[1], rel=1e-5)
    store.close()


def test_a_checkpoint_of_other_data_is_refused(finished, tmp_path):
    shutil.copytree(finished / "sasrec", tmp_path / "sasrec")
    prepare(dataclasses.replace(EXPERIMENT.data, k_core=0), tmp_path / "dataset")
    with pytest.raises(artifacts.ArtifactError, match="another dataset"):
        loaded_model.load_sasrec(tmp_path)
