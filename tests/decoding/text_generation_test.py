import numpy as np
import pytest

from genrec.data.errors import DataError
from genrec.decoding import loaded_model as trained_models
from genrec.decoding.text_generation import BATCH, Writer
from genrec.input_pipeline import tasks


@pytest.fixture(scope="module")
def trained(listener):
    return trained_models.load(listener)


def test_what_is_written_is_what_is_likeliest(trained):
    """Greedy: given its own text, every piece of it is the likeliest; another text has others."""
    writer = Writer(trained)
    items = [np.array([item]) for item in range(BATCH + 3)]
    written = writer.write(tasks.ITEM_TITLE, items)
    assert len(written) == len(items)
    alone = writer.write(tasks.ITEM_TITLE, items[-1:])
    assert alone == written[-1:]  # whatever else is in the batch
    titles = trained.dataset.catalogue.titles[: len(items)]
    assert writer.accuracy(tasks.ITEM_TITLE, items, titles) < 1


def test_accuracy_counts_the_pieces_that_are_likeliest(trained):
    writer, vocabulary = Writer(trained), trained.tokens.vocabulary
    history = [np.array([1, 2, 3])]
    pieces = []
    longest = trained.wishes["longest_text"]
    given = np.zeros((BATCH, longest - 1), np.int32)
    (rows, _), *_ = writer._batches(tasks.TASTE, history)
    for place in range(4):
        pieces.append(int(np.asarray(writer._logits(trained.params, *rows, given))[0, place].argmax()))
        given[:, place] = pieces[-1]
    text = vocabulary.decode(pieces)
    if vocabulary.encode(text).tolist() == pieces:  # an untrained model may write what cannot be read back
        assert writer.accuracy(tasks.TASTE, history, [text]) >= 4 / 5
    assert 0 <= writer.accuracy(tasks.TASTE, history, ["something calm"]) <= 1


def test_a_model_without_texts_says_so(trained):
    with pytest.raises(DataError, match="writes no texts"):
        Writer(trained._replace(wishes={**trained.wishes, "texts": False}))
