"""Classifier-free guidance of a search by a prompt, on the logits of codes.

At strength s the logits are u + s (c - u), where c are those with the prompt and u those without it (Ho & Salimans
2022; for language models Sanchez et al. 2023): 0 ignores the prompt, 1 is plain conditioning, more exaggerates the
effect of the prompt. Unwanted values are a negative prompt (ibid.): with r the logits of a prompt for them,
s (r - u) is subtracted. A model learns far better what to look for than what to avoid.

Every level is guided, so the scores of items are those of the guided distribution.
"""

import functools
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp

from genrec.decoding.beam_search import Finish, Step, Tilt
from genrec.decoding.index_arrays import ArrayT
from genrec.input_pipeline.examples import Histories
from genrec.models import prompt_bias
from genrec.models.recommender import Memory, Recommender


class NegativePrompts(NamedTuple, Generic[ArrayT]):
    """Prompts for what the rows of a batch must not be like."""

    histories: Histories  # the same rows with these prompts
    strength: ArrayT  # float32[rows]; 0 for rows without a negative prompt


class Guidance(NamedTuple, Generic[ArrayT]):
    """Classifier-free guidance of a batch by its prompts."""

    unconditional: Histories  # the same rows without their prompts
    strength: ArrayT  # float32[rows]
    negative: NegativePrompts[ArrayT] | None = None


def decoder(
    model: Recommender, histories: Histories, guidance: Guidance[jax.Array] | None
) -> tuple[Step, Finish, list[Tilt]]:
    """Returns the decoder of a beam search: the model on `histories`, with guidance if any; and the tilts of prompts.

    Call it under `jax.jit`.
    """
    memory = model.start(histories)
    if guidance is None:
        tilts = _tilts([(memory, histories, jnp.float32(1))])
        return functools.partial(model.step, memory), functools.partial(model.finish, memory), tilts
    memories, strength = [memory, model.start(guidance.unconditional)], guidance.strength[:, None, None]
    weights = [strength, 1 - strength]  # in this form, strengths 0 and 1 are exact
    if guidance.negative is not None:
        against = guidance.negative.strength[:, None, None]
        memories.append(model.start(guidance.negative.histories))
        weights = [strength, 1 - strength + against, -against]

    def guided(logits: tuple[jax.Array, ...]) -> jax.Array:
        return sum((weight * one for weight, one in zip(weights, logits, strict=True)), start=jnp.float32(0))

    def step(codes: jax.Array | None, level: int, cache: Any, **shares: Any) -> tuple[jax.Array, Any]:
        caches = [None] * len(memories) if cache is None else cache
        of_each = [model.step(one, codes, level, own, **shares) for one, own in zip(memories, caches, strict=True)]
        logits, caches = zip(*of_each, strict=True)
        return guided(logits), caches

    def finish(codes: jax.Array, level: int, cache: Any, **shares: Any) -> list[jax.Array]:
        of_each = [model.finish(one, codes, level, own, **shares) for one, own in zip(memories, cache, strict=True)]
        return [guided(logits) for logits in zip(*of_each, strict=True)]

    inputs = [histories, guidance.unconditional, *([] if guidance.negative is None else [guidance.negative.histories])]
    return step, finish, _tilts(list(zip(memories, inputs, weights, strict=True)))


def _tilts(parts: list[tuple[Memory, Histories, jax.Array]]) -> list[Tilt]:
    """Returns the tilts of the parts of a decoder that have prompts, with the weights of their logits."""
    return [
        Tilt(*prompt_bias.cumulated(memory.tilts, histories.mentions), weight)
        for memory, histories, weight in parts
        if memory.tilts is not None and histories.mentions is not None
    ]
