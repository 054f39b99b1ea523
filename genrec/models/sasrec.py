"""SASRec: a causal transformer over the items of a history that predicts the next item (Kang & McAuley, ICDM 2018).

Trained by the softmax over the whole catalogue, at every position or one target per example, which makes it a far
stronger baseline than with the sampled negatives of the paper (Klenitskiy & Vasilev, RecSys 2023). The layers are those
of the generator's encoder with relative positions ("t5"), or those of the published code with learned ones ("bert"),
where a frequency filter makes it BSARec (genrec.models.bsarec). Input and output share one embedding table. An item is
one token, its catalogue row; the prefix is one token, the same for every user (`input_pipeline.item_histories`).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from genrec import config
from genrec.input_pipeline.examples import Examples, Histories
from genrec.models import bsarec
from genrec.models.attention import MASKED
from genrec.models.layers import Dropout, EncoderLayer, Layers, PositionBias, RMSNorm
from genrec.models.recommender import NO_DROPOUT, table_rows
from genrec.sharding import constrain


class SASRec(nnx.Module):
    """Transformer over items; the settings of decoder, users and repeats in `cfg` have no effect.

    `max_history` is the most items of a history; `causal`, that every position of a segment predicts, not only the
    last token. Both are those of training and have no effect on the architecture "t5".
    """

    def __init__(self, cfg: config.SasRecModel, items: int, rngs: nnx.Rngs, max_history: int = 20, causal: bool = True):
        self.cfg, self.items = cfg, items
        rows, published = table_rows(items + 1), cfg.architecture == "bert"
        init = nnx.initializers.normal(bsarec.DEVIATION if published else cfg.width**-0.5)
        self.embedding = nnx.Param(init(rngs.params(), (rows, cfg.width)), axes=("vocabulary", "embed"))
        self.bert = bsarec.Encoder(cfg, max_history, causal, rngs) if published else None
        if published:
            return
        self.position_bias = PositionBias(cfg, bidirectional=False, rngs=rngs)
        self.layers = Layers(lambda: EncoderLayer(cfg, rngs), cfg.encoder_layers, cfg)
        self.norm = RMSNorm(cfg.width)

    def encode(self, histories: Histories, dropout: Dropout = NO_DROPOUT) -> jax.Array:
        """Returns [batch, tokens, width], at each token a prediction of the next item."""
        table = constrain(self.embedding[...], "vocabulary")
        x = table[histories.tokens].astype(self.cfg.compute)
        if self.bert is not None:
            return self.bert(x, histories, dropout)
        x = constrain(dropout(x * self.cfg.width**0.5), "batch")
        index = jnp.arange(histories.tokens.shape[1])
        position = self.position_bias(index[None, :] - index[:, None])  # [heads, queries, keys]
        same = histories.segments[:, :, None] == histories.segments[:, None, :]
        seen = same & (histories.positions[:, :, None] >= histories.positions[:, None, :])
        bias = position + jnp.where(seen, 0.0, MASKED)[:, None]
        x = self.layers.run(lambda layer, number, x: layer(x, bias, dropout.of_layer(number)), x)
        return dropout(self.norm(x))

    def _logits(self, x: jax.Array) -> jax.Array:
        """Returns float32[..., items] for [..., width]."""
        table = self.embedding[...].astype(x.dtype)
        return jnp.einsum("...w,iw->...i", x, table, preferred_element_type=jnp.float32)[..., : self.items]

    def losses(self, examples: Examples, dropout_key: jax.Array | None = None) -> jax.Array:
        """Returns the negative log-likelihood of each target, float32[batch, targets, 1]; meaningless at padding."""
        histories = examples.histories
        encoded = self.encode(histories, Dropout(self.cfg.dropout, dropout_key))
        # A target at position t of its segment is predicted by the last token at that position: the only one, unless
        # the segment is bidirectional.
        here = (histories.segments[:, None, :] == examples.target_segments[:, :, None]) & (
            histories.positions[:, None, :] == examples.target_positions[:, :, None]
        )
        place = jnp.where(here, jnp.arange(here.shape[-1]), 0).max(axis=-1)  # [batch, targets]
        logits = self._logits(jnp.take_along_axis(encoded, place[..., None], axis=1))
        chosen = jnp.take_along_axis(logits, examples.targets, axis=-1)
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True) - chosen

    def vectors(self, histories: Histories) -> jax.Array:
        """Returns [batch, width], the output at the last token of one user's history a row."""
        encoded = self.encode(histories)
        # Padding follows the tokens of a row.
        last = (histories.segments > 0).sum(axis=1) - 1
        return jnp.take_along_axis(encoded, last[:, None, None], axis=1)[:, 0]

    def scores(self, histories: Histories) -> jax.Array:
        """Returns float32[batch, items], the log-likelihood of each catalogue row after one user's history a row."""
        return jax.nn.log_softmax(self._logits(self.vectors(histories)), axis=-1)
