"""The forms of layers that TPUs prefer give the results and gradients of the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from genrec import config, sharding
from genrec.models import attention, layers
from genrec.models.attention import KeysValues, Rows
from genrec.models.layers import MLP, Dropout, Layers

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


def in_rows(queries, memory, bias, groups=1):
    return attention.attend_rows(queries, memory, bias, Rows(jnp.dtype("float32"), groups=groups)).read


@pytest.mark.parametrize(("new", "tokens"), [(4, 4), (1, 3), (2, 5), (1, 1)])
def test_attention_among_the_few_tokens_of_a_group(new, tokens):
    queries = normal(2, 5, new, HEADS, WIDTH)
    memory = KeysValues(normal(2, 5, tokens, HEADS, WIDTH), normal(5, 2, tokens, HEADS, WIDTH).swapaxes(0, 1))
    distance = np.arange(tokens)[None, :] - np.arange(tokens - new, tokens)[:, None]
    bias = normal(HEADS, new, tokens) + jnp.where(distance <= 0, 0.0, attention.MASKED)

    def token_by_token(queries, memory, bias):
        asked, *both = ([x[:, :, n].reshape(2, 5, -1) for n in range(x.shape[2])] for x in (queries, *memory))
        return jnp.stack(attention.attend_few(asked, list(map(KeysValues, *both)), bias), axis=2)

    assert_equal(token_by_token, attention.attend, queries, memory, bias)


@pytest.mark.parametrize(
    "bias_shape", [(2, HEADS, 5, 7), (2, 1, 5, 7), (2, 1, 1, 7), (2, HEADS, 1, 7), (1, HEADS, 5, 7)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_keys_before_queries(bias_shape, masked):
    memory = KeysValues(normal(2, 7, HEADS, WIDTH), normal(2, 7, WIDTH, HEADS).swapaxes(2, 3))
    bias = normal(*bias_shape)
    if masked:  # some keys, and all of the first row
        bias = bias.at[..., ::2].add(attention.MASKED).at[:1].add(attention.MASKED)
    assert_equal(in_rows, attention.attend, normal(2, 5, HEADS, WIDTH), memory, bias)


@pytest.mark.parametrize(("groups", "new"), [(5, 4), (1, 3), (4, 1)])
def test_attention_within_groups_as_that_of_a_row(groups, new):
    """Token after token, with a bias for the tokens of a group."""
    distance = np.arange(new)[None, :] - np.arange(new)[:, None]
    bias = normal(1, HEADS, new, new) + jnp.where(distance <= 0, 0.0, attention.MASKED)

    def each_group(queries, memory, bias):
        parted = jax.tree.map(lambda x: x.reshape(2, new, groups, HEADS, WIDTH).swapaxes(1, 2), (queries, memory))
        return attention.attend(*parted, bias).swapaxes(1, 2).reshape(2, new * groups, -1)

    tokens = (2, new * groups, HEADS, WIDTH)
    memory = KeysValues(normal(*tokens), normal(*tokens) ** 2)
    assert_equal(lambda *arguments: in_rows(*arguments, groups), each_group, normal(*tokens) + 1, memory, bias)


@pytest.mark.parametrize(
    ("leading", "bias_shape"),
    [
        ((2,), (2, HEADS, 5, 7)),
        ((2,), (2, 1, 5, 7)),
        ((2,), (2, 1, 1, 7)),
        ((2,), (1, HEADS, 5, 7)),
        ((2, 3), (HEADS, 5, 7)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_has_the_gradients_of_a_softmax(leading, bias_shape, masked):
    memory = KeysValues(normal(*leading, 7, HEADS, WIDTH), normal(*leading, 7, WIDTH, HEADS).swapaxes(-1, -2))
    bias = normal(*bias_shape)
    if masked:
        bias = bias.at[..., ::2].add(attention.MASKED).at[:1].add(attention.MASKED)

    def plain(queries, memory, bias):
        logits = jnp.einsum("...qhd,...khd->...hqk", queries, memory.keys) + bias
        mixed = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(logits), memory.values)
        return mixed.reshape(*mixed.shape[:-2], -1)

    assert_equal(attention.attend, plain, normal(*leading, 5, HEADS, WIDTH), memory, bias)


def test_the_dropout_of_a_relu_has_the_gradient_of_both():
    def in_turn(x):
        return Dropout(0.3, jax.random.key(0))(jax.nn.relu(x))

    def at_once(x, rate=0.3):
        return Dropout(rate, jax.random.key(0)).of_relu(x, "float32").read

    assert_equal(at_once, in_turn, normal(40, 30).at[0].set(0))
    assert_equal(lambda x: at_once(x, 0.0), jax.nn.relu, normal(4) + 0.1)


def test_dropout_is_that_of_each_token_in_the_order_of_tpus_too(monkeypatch):
    x = normal(3, 5, 4, 16)
    plain = Dropout(0.3, jax.random.key(0), new=4)(layers.flat(x))
    monkeypatch.setattr(sharding, "on_tpu", lambda: True)
    token_after_token = layers.flat(x)
    np.testing.assert_array_equal(token_after_token[:, 5], x[:, 0, 1])
    np.testing.assert_array_equal(layers.grouped(token_after_token, 4), x)
    dropped = Dropout(0.3, jax.random.key(0), new=4)(token_after_token)
    np.testing.assert_array_equal(layers.grouped(dropped, 4), plain.reshape(x.shape))


@pytest.mark.parametrize("at_once", [2, 3])
def test_stacked_layers_on_tpus_run_one_after_another_where_they_are_few_and_are_computed_again_where_not(
    monkeypatch, at_once
):
    cfg, count, rngs = config.Model(width=WIDTH, mlp=16, scan_layers=True), 3, nnx.Rngs(0)
    graphdef, params = nnx.split(Layers(lambda: MLP(cfg, rngs), count, cfg))

    def summed(params, x):
        result = nnx.merge(graphdef, params).run(lambda layer, number, x: layer(x, Dropout(0.0, None)), x)
        return (result * jnp.cos(result)).sum()

    x = normal(2, 5, WIDTH)
    plain = jax.jit(jax.grad(summed))(params, x)
    monkeypatch.setattr(sharding, "on_tpu", lambda: True)
    monkeypatch.setattr(layers, "UNROLLED", at_once)
    again = jax.make_jaxpr(jax.grad(summed))(params, x)
    assert ("remat" in str(again) or "checkpoint" in str(again)) == (at_once < count)
    found = jax.jit(lambda *arguments: jax.grad(summed)(*arguments))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, plain)
