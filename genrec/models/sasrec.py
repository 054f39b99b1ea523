"""SASRec: a causal transformer over the items of a history that predicts the next item (Kang & McAuley, ICDM 2018).

Trained by the softmax over the whole catalogue at every position, which makes it a far stronger baseline than the
sampled negatives of the paper (Klenitskiy & Vasilev, RecSys 2023). The layers are those of the generator's encoder,
positions are relative, and input and output share one embedding table.

An item is one token, its row of the catalogue; the prefix is one token too, the same for every user.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from genrec import config
from genrec.input_pipeline.examples import Examples, Histories, Tokenizer
from genrec.models.layers import MASKED, Dropout, EncoderLayer, Layers, PositionBias, RMSNorm
from genrec.models.recommender import NO_DROPOUT, table_rows
from genrec.sharding import constrain


def tokenizer(items: int) -> Tokenizer:
    """One token an item, and one for all users after them."""
    return Tokenizer(np.arange(items, dtype=np.int32)[:, None], items, 1)


class Sequential(nnx.Module):
    """Of `cfg`, what belongs to a decoder, users and repeats is left unused."""

    def __init__(self, cfg: config.Model, items: int, rngs: nnx.Rngs):
        self.cfg, self.items = cfg, items
        rows = table_rows(items + 1)
        init = nnx.initializers.normal(cfg.width**-0.5)
        self.embedding = nnx.Param(init(rngs.params(), (rows, cfg.width)), axes=("vocabulary", "embed"))
        self.position_bias = PositionBias(cfg, bidirectional=False, rngs=rngs)
        self.layers = Layers(lambda: EncoderLayer(cfg, rngs), cfg.encoder_layers, cfg)
        self.norm = RMSNorm(cfg.width)

    def encode(self, histories: Histories, dropout: Dropout = NO_DROPOUT) -> jax.Array:
        """[batch, tokens, width]: at each token what comes after it."""
        table = constrain(self.embedding[...], "vocabulary")
        x = table[histories.tokens].astype(self.cfg.compute) * self.cfg.width**0.5
        x = constrain(dropout(x), "batch")
        index = jnp.arange(histories.tokens.shape[1])
        position = self.position_bias(index[None, :] - index[:, None])  # [heads, queries, keys]
        same = histories.segments[:, :, None] == histories.segments[:, None, :]
        seen = same & (histories.positions[:, :, None] >= histories.positions[:, None, :])
        bias = position + jnp.where(seen, 0.0, MASKED)[:, None]
        x = self.layers.run(lambda layer, number, x: layer(x, bias, dropout.of_layer(number)), x)
        return dropout(self.norm(x))

    def _logits(self, x: jax.Array) -> jax.Array:
        """float32[..., items] for [..., width]."""
        table = self.embedding[...].astype(x.dtype)
        return jnp.einsum("...w,iw->...i", x, table, preferred_element_type=jnp.float32)[..., : self.items]

    def losses(self, examples: Examples, dropout_key: jax.Array | None = None) -> jax.Array:
        """Negative log-likelihood of each target, float32[batch, targets, 1]; meaningless at padding."""
        histories = examples.histories
        encoded = self.encode(histories, Dropout(self.cfg.dropout, dropout_key))
        # A target at position t of its segment comes after the one token that stands there.
        here = (histories.segments[:, None, :] == examples.target_segments[:, :, None]) & (
            histories.positions[:, None, :] == examples.target_positions[:, :, None]
        )
        place = jnp.argmax(here, axis=-1)  # [batch, targets]
        logits = self._logits(jnp.take_along_axis(encoded, place[..., None], axis=1))
        chosen = jnp.take_along_axis(logits, examples.targets, axis=-1)
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True) - chosen

    def vectors(self, histories: Histories) -> jax.Array:
        """[batch, width]: what the model makes of one user's history a row."""
        encoded = self.encode(histories)
        # Tokens come first in a row, and padding after them.
        last = (histories.segments > 0).sum(axis=1) - 1
        return jnp.take_along_axis(encoded, last[:, None, None], axis=1)[:, 0]

    def scores(self, histories: Histories) -> jax.Array:
        """float32[batch, items]: log-likelihood of each item of the catalogue after one user's history a row."""
        return jax.nn.log_softmax(self._logits(self.vectors(histories)), axis=-1)
