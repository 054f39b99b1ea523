"""Greedy generation of texts: titles and attributes of items, and users' tastes in words."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from flax import nnx

from genrec.data.errors import DataError
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.input_pipeline.context import ALL_WITHHELD
from genrec.input_pipeline.examples import ANONYMOUS, Histories

BATCH = 32  # texts at a time


class TextGenerator:
    """Greedy decoder of texts, compiled once."""

    def __init__(self, loaded: LoadedGenerator):
        """Raises DataError for a model that was not trained to generate texts."""
        vocabulary = loaded.tokenizer.vocabulary
        if not loaded.generates_texts or vocabulary is None:
            raise DataError("the model generates no texts: train it with prompts.texts")
        self._loaded, self._longest, self._vocabulary = loaded, loaded.prompts["longest_text"], vocabulary
        graphdef = loaded.graphdef

        @jax.jit
        def logits(params: nnx.State, histories: Histories, kinds: jax.Array, pieces: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params).text_logits(histories, kinds, pieces)

        self._logits = logits

    def generate(self, kind: int, items: Sequence[np.ndarray]) -> list[str]:
        """Generates a text of a kind (input_pipeline.tasks) for each history or item, int32[n] catalogue rows."""
        texts = []
        for histories, kinds, count in self._batches(kind, items):
            pieces = np.zeros((BATCH, self._longest), np.int32)
            done = np.zeros(BATCH, bool)
            for place in range(self._longest):
                found = self._logits(self._loaded.params, histories, kinds, pieces[:, :-1])[:, place]
                pieces[:, place] = np.where(done, self._vocabulary.end, np.argmax(found, axis=-1))
                done |= pieces[:, place] == self._vocabulary.end
                if done[:count].all():
                    break
            for text in pieces[:count]:
                end = np.flatnonzero(text == self._vocabulary.end)
                texts.append(self._vocabulary.decode(text[: end[0] if len(end) else None]))
        return texts

    def token_accuracy(self, kind: int, items: Sequence[np.ndarray], texts: Sequence[str]) -> float:
        """Returns the share of the pieces of given texts, ends included, that are most likely after those before."""
        right = total = 0
        for number, (histories, kinds, count) in enumerate(self._batches(kind, items)):
            wanted = np.full((BATCH, self._longest), -1, np.int32)
            for row, text in enumerate(texts[number * BATCH : number * BATCH + count]):
                pieces = np.append(self._vocabulary.encode(text), self._vocabulary.end)[: self._longest]
                wanted[row, : len(pieces)] = pieces
            found = self._logits(self._loaded.params, histories, kinds, np.maximum(wanted[:, :-1], 0)).argmax(axis=-1)
            right += int(((np.asarray(found) == wanted) & (wanted >= 0)).sum())
            total += int((wanted >= 0).sum())
        return right / total

    def _batches(self, kind: int, items: Sequence[np.ndarray]) -> Iterator[tuple[Histories, np.ndarray, int]]:
        """Yields histories and kinds of each batch, and the number of its texts, padded with copies of the first."""
        for start in range(0, len(items), BATCH):
            some = list(items[start : start + BATCH])
            count = len(some)
            some += [some[0]] * (BATCH - count)
            histories = self._loaded.histories([ANONYMOUS] * BATCH, some, contexts=[ALL_WITHHELD] * BATCH)
            yield histories, np.full(BATCH, kind, np.int32), count
