"""Attention in the forms that TPUs prefer gives the results and gradients of the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genrec.models import layers
from genrec.models.layers import KeysValues

HEADS, WIDTH = 3, 8


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


def assert_equal(first, second, *arguments) -> None:
    """Compares two functions and the gradients of all their arguments."""

    @jax.jit
    def results(*arguments):
        found = []
        for function in (first, second):
            value, pull = jax.vjp(function, *arguments)
            found.append((value, pull(jnp.cos(jnp.arange(value.size)).reshape(value.shape))))
        return found

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results(*arguments))


@pytest.mark.parametrize(("new", "tokens"), [(4, 4), (1, 3), (2, 5), (1, 1)])
def test_attention_among_the_few_tokens_of_a_group(new, tokens):
    queries = normal(2, 5, new, HEADS, WIDTH)
    memory = KeysValues(normal(2, 5, tokens, HEADS, WIDTH), normal(5, 2, tokens, HEADS, WIDTH).swapaxes(0, 1))
    distance = np.arange(tokens)[None, :] - np.arange(tokens - new, tokens)[:, None]
    bias = normal(HEADS, new, tokens) + jnp.where(distance <= 0, 0.0, layers.MASKED)
    assert_equal(layers.attend_few, layers.attend, queries, memory, bias)


@pytest.mark.parametrize("bias_shape", [(2, HEADS, 5, 7), (2, 1, 5, 7), (2, 1, 1, 7)])
def test_attention_of_the_tokens_of_groups_to_a_row(bias_shape):
    queries = normal(2, 4, 5, HEADS, WIDTH)  # token after token
    memory, bias = (
        KeysValues(normal(2, 7, HEADS, WIDTH), normal(2, 7, WIDTH, HEADS).swapaxes(2, 3)),
        normal(*bias_shape),
    )

    def plain(queries, memory, bias):
        mixed = layers.attend(
            queries.swapaxes(1, 2).reshape(2, 20, HEADS, WIDTH),
            memory,
            jnp.repeat(bias, 4, axis=2) if bias.shape[2] > 1 else bias,
        )
        return mixed.reshape(2, 5, 4, -1).swapaxes(1, 2)

    assert_equal(layers.attend_across, plain, queries, memory, bias)
