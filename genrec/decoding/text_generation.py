"""Texts that a model writes, piece by piece: titles and attributes of items, a taste in words."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from flax import nnx

from genrec.data.errors import DataError
from genrec.decoding.loaded_model import LoadedModel
from genrec.input_pipeline.context import ALL_WITHHELD
from genrec.input_pipeline.examples import ANONYMOUS, Histories

BATCH = 32  # texts at a time


class TextGenerator:
    """Greedy: always the likeliest piece. Compiled once."""

    def __init__(self, loaded: LoadedModel):
        """Raises DataError for a model that writes no texts."""
        if not loaded.writes:
            raise DataError("the model writes no texts: it was trained without them (config.prompts.texts)")
        self._loaded_model, self._longest = loaded, loaded.prompts["longest_text"]
        self._vocabulary = loaded.tokenizer.vocabulary
        graphdef = loaded.graphdef

        @jax.jit
        def logits(params: nnx.State, histories: Histories, kinds: jax.Array, pieces: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params).text_logits(histories, kinds, pieces)

        self._logits = logits

    def write(self, kind: int, items: Sequence[np.ndarray]) -> list[str]:
        """A text of a kind (data.tasks) for each history, or item, int32[n] catalogue rows."""
        texts = []
        for rows, count in self._batches(kind, items):
            pieces = np.zeros((BATCH, self._longest), np.int32)
            done = np.zeros(BATCH, bool)
            for place in range(self._longest):
                found = self._logits(self._loaded_model.params, *rows, pieces[:, :-1])[:, place]
                pieces[:, place] = np.where(done, self._vocabulary.end, np.argmax(found, axis=-1))
                done |= pieces[:, place] == self._vocabulary.end
                if done[:count].all():
                    break
            for of_text in pieces[:count]:
                end = np.flatnonzero(of_text == self._vocabulary.end)
                texts.append(self._vocabulary.decode(of_text[: end[0] if len(end) else None]))
        return texts

    def accuracy(self, kind: int, items: Sequence[np.ndarray], texts: Sequence[str]) -> float:
        """The share of the pieces of given texts, ends included, that are the likeliest after those before them."""
        right = total = 0
        for number, (rows, count) in enumerate(self._batches(kind, items)):
            wanted = np.full((BATCH, self._longest), -1, np.int32)
            for row, text in enumerate(texts[number * BATCH : number * BATCH + count]):
                said = np.append(self._vocabulary.encode(text), self._vocabulary.end)[: self._longest]
                wanted[row, : len(said)] = said
            found = self._logits(self._loaded_model.params, *rows, np.maximum(wanted[:, :-1], 0)).argmax(axis=-1)
            right += int(((np.asarray(found) == wanted) & (wanted >= 0)).sum())
            total += int((wanted >= 0).sum())
        return right / total

    def _batches(self, kind: int, items: Sequence[np.ndarray]) -> Iterator[tuple[tuple[Histories, np.ndarray], int]]:
        """Histories and kinds of each batch, and how many of its texts are wanted."""
        for start in range(0, len(items), BATCH):
            some = list(items[start : start + BATCH])
            count = len(some)
            some += [some[0]] * (BATCH - count)
            histories = self._loaded_model.histories([ANONYMOUS] * BATCH, some, contexts=[ALL_WITHHELD] * BATCH)
            yield (histories, np.full(BATCH, kind, np.int32)), count
