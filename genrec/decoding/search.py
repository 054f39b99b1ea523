"""Compiled functions of a search with a model: all of it, or the encoder and the search of encoded histories apart."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from genrec import sharding
from genrec.decoding.beam_search import Finish, RankedItems, Step, Tilt, beam_search
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.decoding.search_inputs import Inputs
from genrec.input_pipeline.examples import Examples, Histories
from genrec.models import prompt_bias
from genrec.models.recommender import Memory, Recommender


def search_function(graphdef: nnx.GraphDef, mesh: Mesh, top: int, on_trace: Callable[[], None] = lambda: None) -> Any:
    """Returns the jitted search for lists of `top` items: a function of parameters, index, groups, inputs and width.

    It calls `on_trace` for each new shape of them.
    """

    # The result is replicated, so that every process computes the same metrics from it.
    @functools.partial(jax.jit, static_argnames="width", out_shardings=sharding.named(mesh))
    def search(
        params: nnx.State, index: CatalogueIndex, groups: jax.Array | None, rows: Inputs[jax.Array], width: int
    ) -> RankedItems[jax.Array]:
        on_trace()
        return _search(nnx.merge(graphdef, params), index, groups, rows, width, top)

    return search


def encode_function(graphdef: nnx.GraphDef, mesh: Mesh) -> Any:
    """Returns the jitted encoder: a function of parameters and histories, to [batch, tokens, width]."""

    @functools.partial(jax.jit, out_shardings=sharding.named(mesh))
    def encode(params: nnx.State, histories: Histories) -> jax.Array:
        model: Recommender = nnx.merge(graphdef, params)
        return model.encode(histories)

    return encode


def encoded_search_function(graphdef: nnx.GraphDef, mesh: Mesh, top: int) -> Any:
    """Returns the jitted search of encoded histories: of parameters, index, groups, inputs, `encoded` and width.

    `encoded` are the encoder outputs of the histories and of those of the guidance, in the order of `Inputs.encoder`.
    """

    @functools.partial(jax.jit, static_argnames="width", out_shardings=sharding.named(mesh))
    def search(
        params: nnx.State,
        index: CatalogueIndex,
        groups: jax.Array | None,
        rows: Inputs[jax.Array],
        encoded: tuple[jax.Array, ...],
        width: int,
    ) -> RankedItems[jax.Array]:
        return _search(nnx.merge(graphdef, params), index, groups, rows, width, top, encoded)

    return search


def log_probabilities_function(graphdef: nnx.GraphDef) -> Any:
    """Returns the jitted log-probabilities float32[rows, targets]: a function of parameters and examples."""

    @jax.jit
    def score(params: nnx.State, examples: Examples) -> jax.Array:
        return log_probabilities(nnx.merge(graphdef, params), examples)

    return score


def log_probabilities(model: Recommender, examples: Examples) -> jax.Array:
    """Returns float32[rows, targets]: the log-probability of each target. Call it under `jax.jit`."""
    return -model.losses(examples).sum(axis=-1)


def _search(
    model: Recommender,
    index: CatalogueIndex,
    groups: jax.Array | None,
    rows: Inputs[jax.Array],
    width: int,
    top: int,
    encoded: tuple[jax.Array, ...] | None = None,
) -> RankedItems[jax.Array]:
    diversity = None if rows.diversity is None else rows.diversity._replace(groups=groups)
    step, finish, tilt = decoder(model, rows, encoded)
    batch, limits = rows.histories.tokens.shape[0], (rows.constraints, rows.sampling, diversity)
    return beam_search(step, index, batch, width, top, *limits, finish, rows.transitions, tilt)


def decoder(
    model: Recommender, rows: Inputs[jax.Array], encoded: tuple[jax.Array, ...] | None = None
) -> tuple[Step, Finish, Tilt | None]:
    """Returns the decoder of a beam search, the model with guidance if any, and the tilt of its prompts.

    `encoded` are the encoder outputs of `rows.encoder`, where they are known. Call it under `jax.jit`.
    """
    inputs, guidance = rows.encoder, rows.guidance
    memories = [model.start(*one) for one in zip(inputs, encoded or [None] * len(inputs), strict=True)]
    if guidance is None:
        (memory,) = memories
        tilt = _tilt([(memory, rows.histories, jnp.float32(1))])
        return functools.partial(model.step, memory), functools.partial(model.finish, memory), tilt
    strength = guidance.strength[:, None, None]
    weights = [strength, 1 - strength]  # in this form, strengths 0 and 1 are exact
    if guidance.negative is not None:
        against = guidance.negative.strength[:, None, None]
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

    return step, finish, _tilt(list(zip(memories, inputs, weights, strict=True)))


def _tilt(parts: list[tuple[Memory, Histories, jax.Array]]) -> Tilt | None:
    """Returns the tilt by the prompts of the parts of a decoder, whose logits have weights; None without prompts.

    The weights count for each item, before codes take means over their items. Means of each part apart would cancel
    where a code leads to an item that is asked for, and to another one that is refused. A common factor above 1 counts
    after the means, where the range of tilts does not bound it.
    """
    read = [
        (weight * memory.log_tilts, histories.mentions)
        for memory, histories, weight in parts
        if memory.log_tilts is not None and histories.mentions is not None
    ]
    if not read:
        return None
    log_tilts, (mentions, *_) = zip(*read, strict=True)
    greatest = functools.reduce(jnp.maximum, [jnp.abs(weight) for _, _, weight in parts], jnp.float32(1))
    return Tilt(*prompt_bias.cumulated(sum(log_tilts, start=jnp.float32(0)) / greatest, mentions), greatest)
