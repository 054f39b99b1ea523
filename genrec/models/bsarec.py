"""Encoder of BSARec (Shin et al., AAAI 2024): self-attention beside a frequency filter; without the filter, of SASRec.

The layers are those of BERT, as in the code that both are published in: learned absolute positions, biases, GELU, and
layer norm after each residual connection.

The filter keeps the lowest frequencies of a user's sequence and scales the others. The paper takes the Fourier
transform of a window of fixed size, padded in front. Keeping frequencies is a circular convolution over that window;
here it is applied as such, a matrix product, which needs no window to be filled and lets several users share a row. The
window is a history of `max_history` items and the token before it; its padding is zero, where that of the published
code has the vectors of its positions.

With one target per example (`training.targets` "last") a filter mixes all tokens of the history, as in the paper: the
target comes after all of them. With every position a target in one pass, that would show items to the positions that
predict them; each token then takes what the filter of the window that *ends* there would give, from the token itself
and those before it. This is not the paper's filter above the first layer. Attention is causal in both settings.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec import config
from genrec.input_pipeline.examples import Histories
from genrec.models.attention import MASKED
from genrec.models.layers import Dropout, Layers
from genrec.models.products import Linear
from genrec.sharding import constrain

DEVIATION = 0.02  # of initial weights, as in BERT


def low_pass(window: int, frequencies: int) -> np.ndarray:
    """Returns float32[window]: the response, by distance, of a filter that keeps the lowest frequencies of a window.

    Of the discrete Fourier transform it keeps the mean and frequencies // 2 pairs (the c of the paper and its code).
    """
    kept = np.arange(window // 2 + 1) <= frequencies // 2
    return np.fft.irfft(kept, n=window).astype(np.float32)


class Encoder(nnx.Module):
    """Layers over the embedded tokens of histories; `cfg.frequency_filter` 0 leaves the filter out."""

    def __init__(self, cfg: config.SasRecModel, max_history: int, causal: bool, rngs: nnx.Rngs):
        """`causal`: every position of a segment predicts; otherwise only its last token does."""
        self.cfg, self.window, self.causal = cfg, max_history + 1, causal
        init = nnx.initializers.normal(DEVIATION)
        self.positions = nnx.Param(init(rngs.params(), (self.window, cfg.width)), axes=(None, "embed"))
        self.norm = _norm(cfg, rngs)
        self.layers = Layers(lambda: Layer(cfg, rngs), cfg.encoder_layers, cfg)

    def __call__(self, x: jax.Array, histories: Histories, dropout: Dropout) -> jax.Array:
        """Returns [batch, tokens, width] for x [batch, tokens, width]."""
        index = jnp.arange(x.shape[1])
        distance = index[:, None] - index[None, :]  # query minus key
        same = histories.segments[:, :, None] == histories.segments[:, None, :]
        past = same & (distance >= 0)
        # The published code pads histories in front, so that the newest item always has the last position. Where every
        # token predicts, positions must not depend on later ones: they are counted from the oldest.
        passed = past if self.causal else same & (distance <= 0)
        place = jnp.minimum(passed.sum(axis=-1), self.window) - 1  # rows end in padding, which may exceed the window
        x = x + self.positions[...][place].astype(x.dtype)
        x = constrain(dropout(self.norm(x)), "batch")
        bias, mixing = jnp.where(past, 0.0, MASKED)[:, None], None
        if self.cfg.frequency_filter > 0:
            response = jnp.asarray(low_pass(self.window, self.cfg.frequencies))[jnp.abs(distance) % self.window]
            mixing = jnp.where(past if self.causal else same, response, 0).astype(x.dtype)
        return self.layers.run(lambda layer, number, x: layer(x, bias, mixing, dropout.of_layer(number)), x)


class Layer(nnx.Module):
    """Self-attention, beside it the frequency filter, and a feed-forward layer."""

    def __init__(self, cfg: config.SasRecModel, rngs: nnx.Rngs):
        self.head_shape, self.filter_share = (cfg.heads, cfg.head_width), cfg.frequency_filter
        width, heads, mlp = ("embed", cfg.width), ("heads", cfg.heads * cfg.head_width), ("mlp", cfg.mlp)
        self.query, self.key, self.value = (_linear(cfg, width, heads, rngs) for _ in range(3))
        self.out = _linear(cfg, heads, width, rngs)
        self.attention_norm = _norm(cfg, rngs)
        self.filter = FrequencyFilter(cfg, rngs) if cfg.frequency_filter > 0 else None
        self.into, self.out_of = _linear(cfg, width, mlp, rngs), _linear(cfg, mlp, width, rngs)
        self.mlp_norm = _norm(cfg, rngs)

    def __call__(self, x: jax.Array, bias: jax.Array, mixing: jax.Array | None, dropout: Dropout) -> jax.Array:
        """Returns [batch, tokens, width]; `bias` broadcasts to [batch, heads, queries, keys], `mixing` is low-pass."""
        mixed = self.attention_norm(x + dropout(self.out(self._attend(x, bias, dropout))))
        if self.filter is not None and mixing is not None:
            mixed = self.filter_share * self.filter(x, mixing, dropout) + (1 - self.filter_share) * mixed
        hidden = jax.nn.gelu(self.into(mixed), approximate=False)
        return constrain(self.mlp_norm(mixed + dropout(self.out_of(hidden))), "batch")

    def _attend(self, x: jax.Array, bias: jax.Array, dropout: Dropout) -> jax.Array:
        queries, keys, values = (
            project(x).reshape(*x.shape[:-1], *self.head_shape) for project in (self.query, self.key, self.value)
        )
        queries = queries / math.sqrt(self.head_shape[1])
        logits = jnp.einsum("bqhd,bkhd->bhqk", queries, keys, preferred_element_type=jnp.float32) + bias
        weights = dropout(jax.nn.softmax(logits, axis=-1)).astype(values.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, values).reshape(*x.shape[:-1], -1)


class FrequencyFilter(nnx.Module):
    """Low frequencies of the sequence, and the others times a learned factor per dimension (section 4.2)."""

    def __init__(self, cfg: config.SasRecModel, rngs: nnx.Rngs):
        # The square root of the paper's beta. The name keeps it from weight decay, as scales of norms.
        self.scale = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (cfg.width,)))
        self.norm = _norm(cfg, rngs)

    def __call__(self, x: jax.Array, mixing: jax.Array, dropout: Dropout) -> jax.Array:
        """Returns x [batch, tokens, width] after filter, residual and norm; `mixing` is [batch, queries, keys]."""
        low = jnp.einsum("bqk,bkw->bqw", mixing, x)
        return self.norm(x + dropout(low + (self.scale[...] ** 2).astype(x.dtype) * (x - low)))


def _linear(cfg: config.SasRecModel, inputs: tuple[str, int], outputs: tuple[str, int], rngs: nnx.Rngs) -> Linear:
    return Linear(cfg, inputs, outputs, rngs, scale=DEVIATION * math.sqrt(inputs[1]), use_bias=True)


def _norm(cfg: config.SasRecModel, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(cfg.width, epsilon=1e-12, dtype=jnp.dtype(cfg.compute), rngs=rngs)
