"""Properties of the RQ-VAE and of the two gradient estimators of its quantizer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from genrec import config, sharding
from genrec.semantic_ids import rqvae
from genrec.semantic_ids.codes import SemanticIdError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Clusters of clusters, of small norm and off the origin: neither may matter."""
    generator = np.random.default_rng(0)
    coarse, fine = generator.normal(size=(6, 16)), 0.4 * generator.normal(size=(6, 16))
    items = coarse[generator.integers(0, 6, 600)] + fine[generator.integers(0, 6, 600)]
    return (0.05 * (items + 0.05 * generator.normal(size=items.shape)) + 3).astype(np.float32)


def settings(**changes) -> config.SemanticIdLearning:
    small = dict(method="rqvae", codes=(8, 8), hidden=(32,), latent=8, epochs=60, batch=100, learning_rate=3e-3)
    return config.SemanticIdLearning(**small | changes)


def share_of_variance(vectors: np.ndarray, restored: np.ndarray) -> float:
    return float(((vectors - restored) ** 2).sum() / ((vectors - vectors.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("gradient", rqvae.GRADIENTS)
def test_it_learns_to_restore_items_better_with_every_level(vectors, gradient):
    learned = rqvae.learn(vectors, settings(gradient=gradient))
    codes = learned.encode(vectors)
    errors = [share_of_variance(vectors, learned.reconstruct(codes, levels)) for levels in (1, 2)]
    assert errors[1] < errors[0] < 1
    assert errors[1] < 0.35
    assert codes.shape == (600, 2) and codes.dtype == np.int32
    assert all(len(np.unique(codes[:, level])) >= 5 for level in range(2))


def test_the_seed_decides_everything(vectors):
    first, again = (rqvae.learn(vectors, settings(epochs=2)) for _ in range(2))
    np.testing.assert_array_equal(first.encode(vectors), again.encode(vectors))
    other = rqvae.learn(vectors, settings(epochs=2, seed=1))
    assert not np.array_equal(first.codebooks[0], other.codebooks[0])


def test_items_sharded_over_devices_give_the_same_codebooks(vectors):
    items = vectors[:597]  # no multiple of the devices
    one = rqvae.learn(items, settings(epochs=3, batch=96))
    eight = rqvae.learn(items, settings(epochs=3, batch=96), sharding.make_mesh(config.Mesh(8, 1, 1)))
    for alone, shared in zip(one.codebooks, eight.codebooks, strict=True):
        np.testing.assert_allclose(alone, shared, atol=2e-3)
    codes = one.encode(items)
    assert (codes == eight.encode(items)).mean() > 0.98
    np.testing.assert_allclose(one.reconstruct(codes), eight.reconstruct(codes), atol=1e-3)


def test_no_step_gathers_the_items_of_all_devices():
    config_, mesh = settings(epochs=1), sharding.make_mesh(config.Mesh(8, 1, 1))
    model = rqvae.Rqvae(16, config_, nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    tx = optax.sgd(0.1)
    shapes = ((4096, 16), "items"), ((16,),), ((),)
    data = rqvae.Items(
        *(jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding.named(mesh, *names)) for shape, *names in shapes)
    )
    epoch = rqvae._make_epoch(graphdef, tx, config_, 64, 4096)
    with jax.set_mesh(mesh):
        compiled = epoch.lower(params, tx.init(params), data, jax.random.key(0)).compile().as_text()
    gathered = [int(rows) for rows in re.findall(r"= f32\[(\d+),16\]\S* all-gather", compiled)]
    assert max(gathered, default=0) < 4096


def test_unused_codes_move_to_items(vectors):
    data = rqvae.Items(jnp.asarray(vectors), jnp.asarray(vectors.mean(axis=0)), jnp.asarray(vectors.std()))
    model = rqvae.Rqvae(16, settings(), nnx.Rngs(0))
    for book in model.codebooks:
        book[...] = jnp.full(book.shape, 1e3).at[0].set(0)  # one code near the items, seven out of reach
    graphdef, params = nnx.split(model)
    used = (jnp.arange(8) == 0,) * 2
    rows = jax.random.choice(jax.random.key(0), 600, (16,))
    model = nnx.merge(graphdef, rqvae._reset_unused_codes(graphdef, params, data, used, rows))
    codes, _, _ = rqvae.residual_quantize(model.encoder(data.take(jnp.arange(600))), model.books(), 0.25)
    for level, book in enumerate(model.books()):
        np.testing.assert_array_equal(book[0], 0)  # a code in use stays
        assert float(jnp.abs(book).max()) < 100
        assert len(np.unique(codes[:, level])) > 4


def test_passing_a_gradient_leaves_the_value(vectors):
    latents, quantized = jax.random.normal(jax.random.key(0), (2, 50, 8))
    for method in rqvae.GRADIENTS:
        np.testing.assert_allclose(rqvae.pass_gradient(latents, quantized, method), quantized, atol=1e-5)


def test_straight_through_copies_the_gradient():
    latents, quantized, pulled = jax.random.normal(jax.random.key(1), (3, 20, 8))
    gradient = jax.vjp(lambda z: rqvae.pass_gradient(z, quantized, "straight_through"), latents)[1](pulled)[0]
    np.testing.assert_allclose(gradient, pulled, rtol=1e-6)


def test_the_rotated_gradient_keeps_its_angle_to_the_vector():
    latents, quantized, pulled = jax.random.normal(jax.random.key(2), (3, 20, 8))
    gradient = jax.vjp(lambda z: rqvae.pass_gradient(z, quantized, "rotation"), latents)[1](pulled)[0]

    def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
        return (a * b).sum(axis=1) / jnp.linalg.norm(a, axis=1) / jnp.linalg.norm(b, axis=1)

    np.testing.assert_allclose(cosine(gradient, latents), cosine(pulled, quantized), atol=1e-4)
    scale = jnp.linalg.norm(quantized, axis=1) / jnp.linalg.norm(latents, axis=1)
    np.testing.assert_allclose(jnp.linalg.norm(gradient, axis=1), scale * jnp.linalg.norm(pulled, axis=1), rtol=1e-4)


def test_each_loss_term_moves_only_its_side():
    latents = jax.random.normal(jax.random.key(3), (30, 4))
    books = tuple(jax.random.normal(jax.random.key(4), (2, 5, 4)))

    def loss(latents: jax.Array, books: tuple, commitment: float) -> jax.Array:
        return rqvae.residual_quantize(latents, books, commitment)[2]

    assert float(jnp.abs(jax.grad(loss)(latents, books, 0.0)).max()) == 0
    assert float(jnp.abs(jax.grad(loss)(latents, books, 1.0)).max()) > 0
    for with_commitment, without in zip(
        jax.grad(loss, argnums=1)(latents, books, 1.0), jax.grad(loss, argnums=1)(latents, books, 0.0), strict=True
    ):
        np.testing.assert_allclose(with_commitment, without, rtol=1e-6)


def test_bad_settings_are_refused_with_advice(vectors):
    with pytest.raises(SemanticIdError, match="'rotate'"):
        rqvae.learn(vectors, settings(gradient="rotate"))
    with pytest.raises(SemanticIdError, match="1000 codes"):
        rqvae.learn(vectors, settings(codes=(1000, 8)))
    with pytest.raises(SemanticIdError, match="learning_rate"):
        rqvae.learn(vectors, settings(learning_rate=1e30))


def test_codes_that_an_item_has_are_not_revived_whether_or_not_it_was_drawn(vectors, monkeypatch):
    """Items beyond the last whole batch are not drawn in an epoch; their codes are in use all the same."""
    items, checked = vectors[:131], []
    original = rqvae._reset_unused_codes

    def reset(graphdef, params, data, used, rows):
        model = nnx.merge(graphdef, params, copy=True)
        codes = rqvae.residual_quantize(model.encoder(data.take(jnp.arange(131))), model.books(), 0.25)[0]
        jax.debug.callback(lambda *arrays: checked.append(arrays), codes, *used)
        return original(graphdef, params, data, used, rows)

    monkeypatch.setattr(rqvae, "_reset_unused_codes", reset)
    rqvae.learn(items, settings(codes=(64, 64), epochs=3, batch=66))
    jax.effects_barrier()
    assert len(checked) == 3
    for codes, *used in checked:
        for level, in_use in enumerate(used):
            assert sorted(set(codes[:, level].tolist())) == np.flatnonzero(in_use).tolist()


def test_the_mean_of_many_rows_does_not_drift(monkeypatch):
    monkeypatch.setattr(rqvae, "_initialize_codebooks", lambda *_: None)
    vectors = np.full((400_000, 2), 0.05, np.float32)
    vectors[::2] += np.float32(0.001)
    assert vectors.mean(axis=0)[0] != pytest.approx(0.0505, rel=1e-4)  # numpy adds float32 rows one by one
    learned = rqvae.learn(vectors, settings(codes=(2,), hidden=(), latent=1, epochs=1, batch=1000))
    assert learned.mean == pytest.approx([0.0505, 0.0505], rel=1e-6) and learned.mean.dtype == np.float32


def test_a_memory_mapped_catalogue_is_not_copied(tmp_path, vectors):
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    items = rqvae._placed(mapped, vectors.mean(axis=0), 1.0, sharding.one_device())
    assert items.embeddings.unsafe_buffer_pointer() == mapped.ctypes.data
