import numpy as np
import pytest

from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.text_generation import BATCH, TextGenerator
from genrec.input_pipeline import tasks


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


def test_what_is_written_is_what_is_likeliest(loaded):
    """Greedy: given its own text, every piece of it is the likeliest; another text has others."""
    writer = TextGenerator(loaded)
    items = [np.array([item]) for item in range(BATCH + 3)]
    written = writer.write(tasks.ITEM_TITLE, items)
    assert len(written) == len(items)
    alone = writer.write(tasks.ITEM_TITLE, items[-1:])
    assert alone == written[-1:]  # whatever else is in the batch
    titles = loaded.dataset.catalogue.titles[: len(items)]
    assert writer.accuracy(tasks.ITEM_TITLE, items, titles) < 1


def test_accuracy_counts_the_pieces_that_are_likeliest(loaded):
    writer, vocabulary = TextGenerator(loaded), loaded.tokenizer.vocabulary
    history = [np.array([1, 2, 3])]
    pieces = []
    longest = loaded.prompts["longest_text"]
    given = np.zeros((BATCH, longest - 1), np.int32)
    (rows, _), *_ = writer._batches(tasks.TASTE, history)
    for place in range(4):
        pieces.append(int(np.asarray(writer._logits(loaded.params, *rows, given))[0, place].argmax()))
        given[:, place] = pieces[-1]
    text = vocabulary.decode(pieces)
    if vocabulary.encode(text).tolist() == pieces:  # an untrained model may write what cannot be read back
        assert writer.accuracy(tasks.TASTE, history, [text]) >= 4 / 5
    assert 0 <= writer.accuracy(tasks.TASTE, history, ["something calm"]) <= 1


def test_a_model_without_texts_says_so(loaded):
    with pytest.raises(DataError, match="writes no texts"):
        TextGenerator(loaded._replace(prompts={**loaded.prompts, "texts": False}))
