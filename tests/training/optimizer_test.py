"""Weight decay masks, and updates of bfloat16 parameters. Training with the optimizers: train_test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec import config
from genrec.models import load, run_record
from genrec.training import optimizer


@pytest.mark.parametrize("scan_layers", [False, True])
def test_matrices_decay_and_nothing_else(scan_layers):
    model = config.Model(width=16, encoder_layers=2, decoder_layers=1, heads=2, head_width=8, mlp=32)
    model.scan_layers = scan_layers
    record = run_record.RunRecord.of(config.Experiment(model=model), (8, 8), "semantic IDs", "dataset")
    flat = jax.tree.leaves_with_path(optimizer.weight_decay_mask(load.model_of(record).abstract))
    decayed = {jax.tree_util.keystr(path): value for path, value in flat}
    assert any(decayed.values())
    for path, value in decayed.items():
        assert value == ("kernel" in path or "embedding" in path or "output" in path), path


def test_random_rounding_is_right_on_average():
    old = jnp.full(20_000, 1.0, jnp.bfloat16)
    update = jnp.full(20_000, 1e-3, jnp.float32)  # the next bfloat16 above 1 is 1.0078
    new = optimizer.apply_updates(old, update, jax.random.key(0))
    assert new.dtype == jnp.bfloat16 and set(np.unique(new.astype(np.float32))) == {1.0, 1.0078125}
    np.testing.assert_allclose(new.astype(jnp.float32).mean(), 1.001, atol=2e-4)


def test_float32_is_added_exactly():
    old, update = jnp.array([1.0, -2.0]), jnp.array([1e-3, 1e-6])
    np.testing.assert_array_equal(optimizer.apply_updates(old, update, jax.random.key(0)), old + update)


def test_small_updates_of_bfloat16_add_up():
    params = {"w": jnp.full((8, 8), 100.0, jnp.bfloat16)}
    for step in range(400):
        params = optimizer.apply_updates(params, {"w": jnp.full((8, 8), 0.05)}, jax.random.key(step))
    np.testing.assert_allclose(params["w"].astype(jnp.float32).mean(), 120, rtol=0.02)  # nearest rounding stays at 100


def test_moments_of_bfloat16_parameters():
    params = {"w": jnp.ones((8, 8), jnp.bfloat16)}
    tx = optimizer.make(config.Training(), "bfloat16")
    updates, state = tx.update({"w": jnp.ones((8, 8))}, tx.init(params), params)
    dtypes = [leaf.dtype.name for leaf in jax.tree.leaves(state) if leaf.ndim == 2]
    assert dtypes == ["bfloat16", "float32"] and updates["w"].dtype == jnp.float32
