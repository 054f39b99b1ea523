"""Classifier-free guidance of a search by a prompt, on the logits of codes.

At strength s the logits are u + s (c - u), where c are those with the prompt and u those without it (Ho & Salimans
2022; for language models Sanchez et al. 2023): 0 ignores the prompt, 1 is plain conditioning, more exaggerates the
effect of the prompt. Unwanted values are a negative prompt (ibid.): with r the logits of a prompt for them,
s (r - u) is subtracted. A model learns far better what to look for than what to avoid.

Every level is guided, so the scores of items are those of the guided distribution.
`decoding.search` combines the logits.
"""

from typing import Generic, NamedTuple

from genrec.decoding.index_arrays import ArrayT
from genrec.input_pipeline.examples import Histories


class NegativePrompts(NamedTuple, Generic[ArrayT]):
    """Prompts for what the rows of a batch must not be like."""

    histories: Histories  # the same rows with these prompts
    strength: ArrayT  # float32[rows]; 0 for rows without a negative prompt


class Guidance(NamedTuple, Generic[ArrayT]):
    """Classifier-free guidance of a batch by its prompts."""

    unconditional: Histories  # the same rows without their prompts
    strength: ArrayT  # float32[rows]
    negative: NegativePrompts[ArrayT] | None = None
