"""BSARec's encoder against NumPy, with its filter by the Fourier transform of a padded window."""

import math

import jax
import numpy as np
import pytest
from flax import nnx

from genrec import config, sharding
from genrec.input_pipeline import item_histories
from genrec.input_pipeline.examples import Segment, pack
from genrec.models import bsarec
from genrec.models.sasrec import SASRec

ITEMS, MAX_HISTORY, WINDOW = 11, 9, 10
CFG = config.SasRecModel(
    width=16, encoder_layers=2, heads=2, head_width=8, mlp=32, architecture="bert", frequency_filter=0.7, frequencies=5
)
TOKENIZER = item_histories.tokenizer(ITEMS)


def made(causal: bool) -> SASRec:
    """A model in which every part counts: at the start, biases are 0 and the weights of layers small."""
    model = SASRec(CFG, ITEMS, nnx.Rngs(0), MAX_HISTORY, causal)
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + random.normal(0, 0.2, x.shape).astype(np.float32), nnx.state(model))
    return nnx.merge(nnx.graphdef(model), params)


def layer_norm(norm: nnx.LayerNorm, x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-12) * norm.scale[...] + norm.bias[...]


def low_frequencies(x: np.ndarray) -> np.ndarray:
    """The frequencies 0, 1 and 2 of x [n, width], padded in front to the window."""
    spectrum = np.fft.rfft(np.pad(x, ((WINDOW - len(x), 0), (0, 0))), axis=0, norm="ortho")
    spectrum[3:] = 0
    return np.fft.irfft(spectrum, n=WINDOW, axis=0, norm="ortho")[WINDOW - len(x) :]


def expected_last(model: SASRec, tokens: np.ndarray) -> np.ndarray:
    """The output at the last of the tokens of one user, in the setting of one target per example."""
    encoder = model.bert
    n = len(tokens)
    x = np.asarray(model.embedding[...])[tokens] + np.asarray(encoder.positions[...])[np.arange(n)[::-1]]
    x = layer_norm(encoder.norm, x)
    for layer in encoder.layers.each():
        query, key, value = (
            np.asarray(project(x)).reshape(n, 2, 8) for project in (layer.query, layer.key, layer.value)
        )
        logits = np.where(np.tri(n, dtype=bool), np.einsum("qhd,khd->hqk", query, key) / math.sqrt(8), -np.inf)
        weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        attended = np.asarray(layer.out(np.einsum("hqk,khd->qhd", weights, value).reshape(n, 16)))
        low = low_frequencies(x)
        filtered = low + np.asarray(layer.filter.scale[...]) ** 2 * (x - low)
        filtered, attended = layer_norm(layer.filter.norm, x + filtered), layer_norm(layer.attention_norm, x + attended)
        mixed = 0.7 * filtered + 0.3 * attended
        hidden = np.asarray(layer.into(mixed))
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = layer_norm(layer.mlp_norm, mixed + np.asarray(layer.out_of(hidden)))
    return x[-1]


def packed(causal: bool, first: np.ndarray, second: np.ndarray):
    targets = [0, 0] if causal else [len(first) - 1, len(second) - 1]
    parts = [Segment("a", first, targets[0], causal), Segment("b", second, targets[1], causal)]
    return pack([parts], TOKENIZER, 16, 16)


def test_the_encoder_is_that_of_numpy_with_the_fourier_transform_of_a_padded_window():
    model = made(causal=False)
    first, second = np.array([3, 1, 4, 1, 5, 9, 7]), np.array([2, 6, 5, 0])
    found = jax.jit(lambda histories: model.encode(histories))(packed(False, first, second).histories)[0]
    for last, items in ((6, first), (10, second)):
        tokens = np.concatenate([[ITEMS], items[:-1]])  # the token of all users
        np.testing.assert_allclose(found[last], expected_last(model, tokens), rtol=1e-3, atol=1e-4)


def test_a_low_pass_of_all_frequencies_keeps_the_sequence_and_one_of_the_mean_averages():
    np.testing.assert_allclose(bsarec.low_pass(8, 8), np.eye(8)[0], atol=1e-6)
    np.testing.assert_allclose(bsarec.low_pass(9, 1), np.full(9, 1 / 9), atol=1e-6)


def test_a_causal_filter_shows_no_token_a_later_one_nor_another_user():
    model = made(causal=True)
    encode = jax.jit(lambda histories: model.encode(histories))
    first, second = np.array([3, 1, 4, 1, 5, 9, 7]), np.array([2, 6, 5, 0])
    before = encode(packed(True, first, second).histories)[0]
    first[4], second[2] = 8, 10
    after = encode(packed(True, first, second).histories)[0]
    changed = np.abs(before - after).max(axis=-1) > 0
    # Tokens 0 to 6 are the first segment's, the user token included; 7 to 10 the second's.
    assert changed[[5, 6, 10]].all() and not changed[[0, 1, 2, 3, 4, 7, 8, 9]].any()


@pytest.mark.parametrize("causal", [True, False])
def test_losses_and_gradients_on_a_mesh_are_those_on_one_device(causal):
    model, random = made(causal), np.random.default_rng(0)
    graphdef, params = nnx.split(model)
    rows = [
        [
            Segment("a", random.integers(0, ITEMS, 7), 0 if causal else 6, causal),
            Segment("b", random.integers(0, ITEMS, 4), 3, causal),
        ]
        for _ in range(4)
    ]
    examples = pack(rows, TOKENIZER, 16, 8)

    @jax.jit
    def gradients(params, examples):
        def loss(params):
            losses = nnx.merge(graphdef, params).losses(examples)[..., 0]
            return (losses * (examples.target_segments > 0)).sum()

        return jax.value_and_grad(loss)(params)

    expected = jax.device_get(gradients(params, examples))
    mesh = sharding.make_mesh(config.Mesh(2, 2, 2))
    placed = jax.tree.map(jax.device_put, params, sharding.of(sharding.with_shardings(params, mesh)))
    with jax.set_mesh(mesh):
        found = jax.device_get(gradients(placed, sharding.put_rows(mesh, examples, 4)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
