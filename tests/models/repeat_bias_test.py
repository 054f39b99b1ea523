"""The repeat bias against a loop over the items of histories."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec.models import code_prefixes
from genrec.models.repeat_bias import RepeatBias

SIZES = (3, 3, 2)
OFFSETS = (0, 3, 6)
WIDTH = 4


def test_equals_a_loop_over_the_items_of_the_history():
    random = np.random.default_rng(0)
    batch, items, groups = 4, 6, 5
    history = np.stack([random.integers(0, size, (batch, items)) for size in SIZES], axis=-1) + np.array(OFFSETS)
    tokens = np.concatenate([np.full((batch, 1), sum(SIZES)), history.reshape(batch, -1)], axis=1)  # a user before them
    encoded = random.normal(size=(*tokens.shape, WIDTH)).astype(np.float32)
    visible = random.integers(0, items + 1, (batch, groups))  # items that each group sees
    position = np.concatenate([[0], np.repeat(np.arange(1, items + 1), len(SIZES))])
    bias = RepeatBias(SIZES, WIDTH)
    bias.from_encoder[...] = jnp.asarray(random.normal(size=(len(SIZES), WIDTH)), jnp.float32)
    bias.from_decoder[...] = jnp.asarray(random.normal(size=(len(SIZES), WIDTH)), jnp.float32)
    seen = position <= visible[..., None]
    memory = bias.project_kv(jnp.asarray(encoded), jnp.asarray(tokens), jnp.asarray(seen))

    for level, size in enumerate(SIZES):
        chosen = [OFFSETS[before] + random.integers(0, SIZES[before], (batch, groups)) for before in range(level)]
        prefixes = jnp.full((batch, groups), code_prefixes.NO_CODES, jnp.uint32)
        for codes_before in chosen:
            prefixes = code_prefixes.extend(prefixes, jnp.asarray(codes_before))
        x = random.normal(size=(batch, groups, WIDTH)).astype(np.float32)
        found = bias(jnp.asarray(x), level, OFFSETS[level] + np.arange(size), prefixes, memory)
        expected = np.zeros((batch, groups, size))
        for row in range(batch):
            for group in range(groups):
                numbers = {}
                for item in range(visible[row, group]):
                    if all(history[row, item, before] == chosen[before][row, group] for before in range(level)):
                        vector = encoded[row, 1 + item * len(SIZES) + level]
                        code = history[row, item, level] - OFFSETS[level]
                        numbers.setdefault(code, []).append(vector @ bias.from_encoder[...][level])
                for code, each in numbers.items():
                    expected[row, group, code] = np.mean(each) + x[row, group] @ bias.from_decoder[...][level]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_starts_without_effect_and_can_be_learned():
    bias = RepeatBias((3,), WIDTH)
    tokens = jnp.array([[0, 2]])
    encoded, x = jnp.ones((1, 2, WIDTH)), jnp.ones((1, 1, WIDTH))
    prefixes = jnp.full((1, 1), code_prefixes.NO_CODES, jnp.uint32)
    seen = jnp.ones((1, 1, 2), bool)
    graphdef, params = nnx.split(bias)

    def added(params):
        module = nnx.merge(graphdef, params)
        memory = module.project_kv(encoded, tokens, seen)
        return module(x, 0, np.arange(3), prefixes, memory)

    assert (added(params) == 0).all()
    gradient = jax.grad(lambda params: added(params)[0, 0, 0])(params)
    assert all(jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradient))
