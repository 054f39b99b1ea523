"""Inputs of models that read an item as one token, SASRec and BSARec (`models.sasrec`), in batches of few sizes."""

from collections.abc import Sequence

import numpy as np

from genrec.input_pipeline import examples
from genrec.input_pipeline.examples import ANONYMOUS, Histories, Tokenizer

BATCH_SIZES = (1, 4, 16, 64)  # larger batches are multiples of the last: each size is a compilation


def tokenizer(items: int) -> Tokenizer:
    """Returns a tokenizer with one token per item, and one after them for all users."""
    return Tokenizer(np.arange(items, dtype=np.int32)[:, None], first_user=items, user_tokens=1)


def batch_size(rows: int) -> int:
    """Returns the batch size to which `rows` are padded."""
    largest = BATCH_SIZES[-1]
    return next((size for size in BATCH_SIZES if size >= rows), -(-rows // largest) * largest)


def batch(items: Sequence[np.ndarray], tokens: Tokenizer, max_history: int, causal: bool, size: int) -> Histories:
    """Returns a batch of histories, catalogue rows int[n] each, that are repeated until there are `size`.

    Items that are newer than the model, which has no tokens for them, are left out.
    """
    known = [np.asarray(one)[np.asarray(one) < len(tokens.items)] for one in items]
    filled = [known[row] for row in np.resize(np.arange(len(known)), size)]
    return examples.histories([ANONYMOUS] * size, filled, tokens, max_history, causal)
