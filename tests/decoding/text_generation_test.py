"""Greedy text generation against the model's own logits."""

import dataclasses

import numpy as np
import pytest

from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.text_generation import BATCH, TextGenerator
from genrec.input_pipeline import tasks


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


def test_texts_do_not_depend_on_their_batch(loaded):
    writer = TextGenerator(loaded)
    items = [np.array([item]) for item in range(BATCH + 3)]
    texts = writer.generate(tasks.ITEM_TITLE, items)
    assert len(texts) == len(items)
    alone = writer.generate(tasks.ITEM_TITLE, items[-1:])
    assert alone == texts[-1:]
    titles = loaded.dataset.catalogue.titles[: len(items)]
    assert writer.token_accuracy(tasks.ITEM_TITLE, items, titles) < 1


def test_token_accuracy_counts_the_most_likely_pieces(loaded):
    writer, vocabulary = TextGenerator(loaded), loaded.tokenizer.vocabulary
    history = [np.array([1, 2, 3])]
    pieces = []
    longest = loaded.prompts["longest_text"]
    given = np.zeros((BATCH, longest - 1), np.int32)
    (histories, kinds, _), *_ = writer._batches(tasks.TASTE, history)
    for place in range(4):
        pieces.append(int(np.asarray(writer._logits(loaded.params, histories, kinds, given))[0, place].argmax()))
        given[:, place] = pieces[-1]
    text = vocabulary.decode(pieces)
    if vocabulary.encode(text).tolist() == pieces:  # pieces of an untrained model may decode to a text of other pieces
        assert writer.token_accuracy(tasks.TASTE, history, [text]) >= 4 / 5
    assert 0 <= writer.token_accuracy(tasks.TASTE, history, ["something calm"]) <= 1


def test_a_model_without_texts_is_refused(loaded):
    with pytest.raises(DataError, match="prompts.texts"):
        record = dataclasses.replace(loaded.record, prompts={**loaded.prompts, "texts": False})
        TextGenerator(dataclasses.replace(loaded, record=record))
