"""Floating-point operations that a model needs, counted from its sizes: what utilization is measured against.

Counted are matrix products, as Chowdhery et al. 2022 (PaLM, appendix B) do: 2 operations for each multiplication with
addition; three times the forward pass for a training step; nothing for what is computed again (`remat`), for padding,
or for element-wise work. Attention counts the whole row that a token stands in, whether masked or not.
"""

from collections.abc import Sequence

from genrec import config


def training_step(
    cfg: config.Model, sizes: Sequence[int], encoder_tokens: float, targets: float, row_tokens: int
) -> float:
    """Operations of one step: forward and backward for so many encoder tokens and targets, padding not counted.

    `sizes` are the codes per level; `row_tokens` the encoder tokens of a row, which attention looks at.
    """
    inner, levels = cfg.heads * cfg.head_width, len(sizes)
    projection = cfg.width * inner  # query, key, value or output
    mlp = (3 if cfg.gated_mlp else 2) * cfg.width * cfg.mlp
    # Multiplications per token. Attention: logits and the sum of values.
    encoder_layer = 4 * projection + 2 * row_tokens * inner + mlp
    decoder_layer = (4 * projection + 2 * levels * inner) + (2 * projection + 2 * row_tokens * inner) + mlp
    keys_and_values = 2 * projection * cfg.decoder_layers  # of every encoder token, for cross-attention
    per_encoder_token = encoder_layer * cfg.encoder_layers + keys_and_values
    per_target = levels * decoder_layer * cfg.decoder_layers + cfg.width * sum(sizes)
    return 3 * 2 * (encoder_tokens * per_encoder_token + targets * per_target)
