"""How strongly a prompt steers a search: classifier-free guidance on the logits of codes.

At strength s the logits are u + s (c - u), where c are those with the prompt and u those without it (Ho & Salimans
2022; for language models Sanchez et al. 2023): 0 does not know of the prompt, 1 is plain conditioning, more exaggerates
what the prompt changes. What is refused is a negative prompt (the same): with r the logits of a prompt for just that,
s (r - u) is taken away. A model learns far better what to look for than what to avoid.

Every level is guided, so the scores of items are those of the guided distribution.
"""

import functools
from typing import Any, NamedTuple

import jax

from genrec.decoding.beam_search import Finish, Step
from genrec.input_pipeline.examples import Histories
from genrec.models.recommender import Recommender


class Guidance(NamedTuple):
    """What a batch is guided away from, and how strongly."""

    without: Histories  # the same rows without their prompts
    strength: jax.Array  # float32[rows]
    refused: Histories | None = None  # the same rows, wishing for what they refuse
    against: jax.Array | None = None  # float32[rows]: strength of that; 0 where nothing is refused


def decoder(model: Recommender, histories: Histories, guidance: Guidance | None) -> tuple[Step, Finish]:
    """What drives a beam search: the model on `histories`, guided if told so. To be called under `jax.jit`."""
    memory = model.start(histories)
    if guidance is None:
        return functools.partial(model.step, memory), functools.partial(model.finish, memory)
    memories, strength = [memory, model.start(guidance.without)], guidance.strength[:, None, None]
    weights = [strength, 1 - strength]  # in this form, strengths 0 and 1 give the one and the other to the bit
    if guidance.refused is not None:
        against = guidance.against[:, None, None]
        memories.append(model.start(guidance.refused))
        weights = [strength, 1 - strength + against, -against]

    def guided(logits: tuple[jax.Array, ...]) -> jax.Array:
        return sum(weight * one for weight, one in zip(weights, logits, strict=True))

    def step(codes: jax.Array | None, level: int, cache: Any) -> tuple[jax.Array, Any]:
        caches = [None] * len(memories) if cache is None else cache
        of_each = [model.step(one, codes, level, own) for one, own in zip(memories, caches, strict=True)]
        logits, caches = zip(*of_each, strict=True)
        return guided(logits), caches

    def finish(codes: jax.Array, level: int, cache: Any) -> list[jax.Array]:
        of_each = [model.finish(one, codes, level, own) for one, own in zip(memories, cache, strict=True)]
        return [guided(logits) for logits in zip(*of_each, strict=True)]

    return step, finish
