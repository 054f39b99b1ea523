import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from genrec import artifacts, config, sharding
from genrec.models import content_init, load
from genrec.models.recommender import Conditioning, Recommender
from genrec.semantic_ids import codes
from genrec.training import optimizer, run_setup, step, train

GROUPS, PER_GROUP, WIDTH = 6, 10, 16
MODEL = config.Model(width=WIDTH, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=16, user_tokens=4)


@pytest.fixture(scope="module")
def catalogue():
    """Items in groups, which embeddings, semantic IDs and texts all tell apart.

    Piece g stands in the texts of group g, piece GROUPS in all, piece GROUPS + 1 in none.
    """
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(GROUPS), PER_GROUP)
    within = np.tile(np.arange(PER_GROUP), GROUPS)
    vectors = (2 * np.eye(GROUPS, 20)[group] + 0.3 * random.normal(size=(len(group), 20))).astype(np.float32)
    # The second level holds the parity, which a further dimension of the embeddings tells.
    vectors[:, -1] = np.where(within % 2, 1.0, -1.0)
    ids = codes.SemanticIds(np.stack([group, within % 2, within], axis=1), (GROUPS, 2, PER_GROUP))
    return vectors, ids, [np.array([GROUPS, g, g]) for g in group]


@pytest.fixture(scope="module")
def content(catalogue):
    return content_init.compute_content(*catalogue, pieces=GROUPS + 2, width=WIDTH, seed=0)


def similarity(a, b):
    """Cosines of the rows of a with those of b."""
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_words_are_close_to_the_codes_of_the_items_that_have_them(content):
    alike = similarity(content.pieces[:GROUPS], content.codes[0])
    assert np.diag(alike).min() > 0.95
    assert (alike - np.eye(GROUPS)).max() < 0.2
    # A word that all texts have carries no content.
    assert np.abs(content.pieces[GROUPS]).max() < 0.2 * np.abs(content.pieces[:GROUPS]).max()
    assert not content.pieces[GROUPS + 1].any()
    known = content.pieces[: GROUPS + 1]
    for rows in (*content.codes, known):
        np.testing.assert_allclose(np.mean(rows**2), 1, rtol=1e-5)


def test_each_level_holds_the_residual_of_those_before(content, catalogue):
    """Its two codes are opposite, as the groups have equally many of both, and orthogonal to the groups."""
    assert len(content.codes) == 2  # the last level only tells items apart
    first, second = content.codes
    np.testing.assert_allclose(similarity(second[:1], second[1:]), -1, atol=0.01)
    assert np.abs(similarity(second, first)).max() < 0.3


def test_distances_between_items_are_kept(catalogue):
    """With as many dimensions as the embeddings have, or more, content is the embeddings, turned and scaled."""
    vectors, _, _ = catalogue
    items = len(vectors)
    ids = codes.SemanticIds(np.stack([np.arange(items), np.zeros(items, int)], axis=1), (items, 1))
    for width in (20, 32):
        (rows,), _ = content_init.compute_content(vectors, ids, [np.array([0])] * items, 1, width, seed=3)
        centered = vectors - vectors.mean(axis=0)
        scale = np.sqrt(items * width / np.sum(centered**2))
        np.testing.assert_allclose(rows @ rows.T, scale**2 * centered @ centered.T, atol=1e-3)


def test_rows_without_content_stay_random(content, catalogue):
    ids = catalogue[1]
    model = Recommender(MODEL, ids.sizes, nnx.Rngs(0), Conditioning(pieces=GROUPS + 2))
    drawn = nnx.to_pure_dict(nnx.state(nnx.clone(model)))
    content_init.initialize(model, content)
    table, before = np.asarray(model.embedding[...]), np.asarray(drawn["embedding"])
    filled = [*range(GROUPS + 2), *range(model.first_piece, model.first_piece + GROUPS + 1)]
    others = np.setdiff1d(np.arange(len(table)), filled)
    np.testing.assert_array_equal(table[others], before[others])
    assert (table[filled] != before[filled]).all()
    first = model.first_piece
    expected = 0.9 * content.pieces[:GROUPS] + np.sqrt(0.19) * before[first : first + GROUPS]
    np.testing.assert_allclose(table[first : first + GROUPS], expected, rtol=1e-5)
    np.testing.assert_array_equal(model.output[2][...], drawn["output"][2])
    expected = 0.9 * content.codes[0] / WIDTH**0.5 + np.sqrt(0.19) * drawn["output"][0]
    np.testing.assert_allclose(model.output[0][...], expected, rtol=1e-5)
    del drawn["embedding"], drawn["output"]
    after = nnx.to_pure_dict(nnx.state(model))
    jax.tree.map(np.testing.assert_array_equal, {name: after[name] for name in drawn}, drawn)


@pytest.fixture(scope="module")
def experiment():
    return config.Experiment(
        data=config.Data(source="synthetic", k_core=0, synthetic=config.SyntheticCatalogue(items=120, users=60)),
        model=MODEL,
        prompts=config.Prompts(columns=("genre:about", "title:words"), pieces=300, from_content=True),
        training=config.Training(
            max_history=4, row_targets=8, batch_targets=64, steps=2, warmup_steps=1, learning_rate=1e-9,
            weight_decay=0.0, validate_every=2, validation_users=8,
        ),
        evaluation=config.Evaluation(beams=10, batch=8, cutoffs=(10,)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def workdir(experiment, tokenized, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("content")
    tokenized(workdir, experiment)
    return workdir


def test_a_run_is_initialized_from_content_on_any_mesh(experiment, workdir):
    setup = run_setup.generator(experiment, workdir)
    tx = optimizer.make(experiment.training, "float32")
    started = []
    for shape in ((1, 1, 1), (2, 2, 2)):
        run = step.describe(setup.record, tx, sharding.make_mesh(config.Mesh(*shape), jax.devices()[: np.prod(shape)]))
        state = step.start(run, setup.warm_start)
        assert jax.tree.map(lambda x: x.sharding, state["params"]) == sharding.of(run.abstract["params"])
        started.append(jax.device_get(jax.tree.leaves((state["params"], state["ema"]))))
    for one, several in zip(*started, strict=True):
        np.testing.assert_array_equal(one, several)

    train.train(experiment, workdir)
    loaded = jax.device_get(jax.tree.leaves(load.load(workdir, "latest").params))
    drawn = jax.device_get(jax.tree.leaves(step.start(run)["params"]))
    for kept, start in zip(loaded, started[0][: len(loaded)], strict=True):
        np.testing.assert_allclose(kept, start, atol=1e-6)  # two tiny steps away
    changed = sum(not np.array_equal(a, b) for a, b in zip(started[0][: len(drawn)], drawn, strict=True))
    assert changed == 3  # the embedding table, and the output tables of the two learned levels


def test_invalid_settings_and_inputs_are_refused(experiment, workdir, tmp_path):
    both = dataclasses.replace(experiment, prompts=dataclasses.replace(experiment.prompts, pretrained="t5"))
    setup, ids = run_setup.generator(experiment, workdir), codes.SemanticIds.load(workdir / "semantic_ids")
    with pytest.raises(config.ConfigError, match="pretrained.*from_content"):
        run_setup.check(both)
    with pytest.raises(artifacts.ArtifactError, match="item_embeddings"):
        run_setup.warm_start_of(setup._replace(workdir=tmp_path), ids)
