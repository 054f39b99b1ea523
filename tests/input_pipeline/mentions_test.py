"""Mentions of values in prompts."""

import numpy as np
import pyarrow as pa
import pytest

from genrec.data.dataset import Catalogue
from genrec.input_pipeline import mentions
from genrec.input_pipeline.mentions import MentionFinder
from genrec.input_pipeline.vocabulary import Vocabulary

COLUMNS = {
    "media_type": ["music", "podcast", "podcast", "music", None],
    "genre": ["indie rock", "rock", "art", "true_crime", "rock"],
    "artist": ["Calm", "", "Ada Costa", "Ada", "Calm"],
    "mood": ["calm", "dark", "calm", None, "bold"],
}
ROLES = [("media_type", "kind"), ("genre", "about"), ("artist", "by"), ("mood", "mood")]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.train(
        ["no podcasts, a podcast, indie rock, true crime by ada costa: calm dark art music"] * 30, 200
    )


@pytest.fixture(scope="module")
def finder(vocabulary):
    catalogue = Catalogue(pa.table({"item_id": list("abcde"), **COLUMNS}), ())
    return MentionFinder(ROLES, catalogue, vocabulary, np.zeros((5, 2), np.int32))


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("", []),
        ("no words of it", []),
        ("Music!", [("media_type", [0, 3])]),
        ("no podcasts, a podcast", [("media_type", [1, 2]), ("media_type", [1, 2])]),
        ("rock, indie rock", [("genre", [1, 4]), ("genre", [0])]),  # the longest
        ("artist rocks musical", []),  # whole words
        ("true crime by Ada Costa?", [("genre", [3]), ("artist", [2])]),
        ("by ada", [("artist", [3])]),
        ("calm", [("artist", [0, 4]), ("mood", [0, 2])]),  # a value of two columns
    ],
)
def test_values_are_found_word_for_word(finder, vocabulary, prompt, expected):
    pieces = vocabulary.encode(prompt)
    found = finder.find(pieces)
    assert [(ROLES[one.column][0], one.items.tolist()) for one in found] == expected
    assert all(0 <= one.last < len(pieces) for one in found)


def test_of_many_mentions_the_last_ones_count(finder, vocabulary):
    found = finder.find(vocabulary.encode("dark " * 3 + "music " * mentions.MOST))
    assert len(found) == mentions.MOST and {one.column for one in found} == {0}
