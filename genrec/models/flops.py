"""Model FLOPs of a training step, from the sizes of the model, for model FLOPs utilization (MFU).

Matrix products are counted as in PaLM (Chowdhery et al. 2022, appendix B): 2 operations per multiply-add, and three
times the forward pass for a training step. Recomputation (`remat`), padding and element-wise operations are not
counted. Attention counts the whole row of a token, masked or not.
"""

from collections.abc import Sequence

from genrec import config


def training_step(
    cfg: config.Model, sizes: Sequence[int], encoder_tokens: float, targets: float, row_tokens: int
) -> float:
    """Returns the operations of one step, forward and backward, for `encoder_tokens` and `targets` without padding.

    `sizes` are the codes per level; `row_tokens` is the number of encoder tokens of a row, over which attention runs.
    """
    inner, levels = cfg.heads * cfg.head_width, len(sizes)
    projection = cfg.width * inner  # query, key, value or output
    mlp = (3 if cfg.gated_mlp else 2) * cfg.width * cfg.mlp
    # Multiply-adds per token. Attention: logits and the sum of values.
    encoder_layer = 4 * projection + 2 * row_tokens * inner + mlp
    decoder_layer = (4 * projection + 2 * levels * inner) + (2 * projection + 2 * row_tokens * inner) + mlp
    keys_and_values = 2 * projection * cfg.decoder_layers  # per encoder token, for cross-attention
    per_encoder_token = encoder_layer * cfg.encoder_layers + keys_and_values
    per_target = levels * decoder_layer * cfg.decoder_layers + cfg.width * sum(sizes)
    return 3 * 2 * (encoder_tokens * per_encoder_token + targets * per_target)
