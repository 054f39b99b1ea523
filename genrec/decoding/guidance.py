"""How strongly a wish steers a search: classifier-free guidance on the logits of codes.

At strength s the logits are u + s (c - u), where c are those with the wish and u those without it (Ho & Salimans
2022; for language models Sanchez et al. 2023): 0 does not know of the wish, 1 is plain conditioning, more exaggerates
what the wish changes. Every level is guided, so the scores of items are those of the guided distribution.
"""

import functools
from typing import Any, NamedTuple

import jax

from genrec.data.examples import Histories
from genrec.decoding.beam_search import Finish, Step
from genrec.models.recommender import Recommender


class Guidance(NamedTuple):
    """What a batch is guided away from, and how strongly."""

    without: Histories  # the same rows without their wishes
    strength: jax.Array  # float32[rows]


def decoder(model: Recommender, histories: Histories, guidance: Guidance | None) -> tuple[Step, Finish]:
    """What drives a beam search: the model on `histories`, guided if told so. To be called under `jax.jit`."""
    memory = model.start(histories)
    if guidance is None:
        return functools.partial(model.step, memory), functools.partial(model.finish, memory)
    without, strength = model.start(guidance.without), guidance.strength[:, None, None]

    def guided(conditional: jax.Array, unconditional: jax.Array) -> jax.Array:
        # In this form, strengths 0 and 1 give the one and the other to the bit.
        return strength * conditional + (1 - strength) * unconditional

    def step(codes: jax.Array | None, level: int, cache: Any) -> tuple[jax.Array, Any]:
        first, second = (None, None) if cache is None else cache
        with_wish, first = model.step(memory, codes, level, first)
        without_wish, second = model.step(without, codes, level, second)
        return guided(with_wish, without_wish), (first, second)

    def finish(codes: jax.Array, level: int, cache: Any) -> list[jax.Array]:
        both = model.finish(memory, codes, level, cache[0]), model.finish(without, codes, level, cache[1])
        return [guided(*logits) for logits in zip(*both, strict=True)]

    return step, finish
