import pytest

from genrec import config
from genrec.input_pipeline.vocabulary import Vocabulary

TEXTS = [
    f"{mood} {kind} about {topic}"
    for mood in ("calm", "dark", "bold", "warm")
    for kind in ("music", "podcasts", "audiobooks")
    for topic in ("history", "jazz", "the sea", "robots", "old letters")
]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.train(TEXTS, 100)


def test_the_same_texts_give_the_same_model(vocabulary):
    assert Vocabulary.train(TEXTS, 100).model == vocabulary.model


def test_words_of_the_catalogue_are_few_pieces_in_any_case(vocabulary):
    assert len(vocabulary.encode("music")) < len("music")
    assert vocabulary.encode("CALM Music").tolist() == vocabulary.encode("calm music").tolist()
    assert vocabulary.decode(vocabulary.encode("calm jazz")) == "calm jazz"


@pytest.mark.parametrize("text", ["静かな音楽", "что-нибудь спокойное", "🎷🔥", "ệ", "\u200bx", "؟"])
def test_unknown_characters_are_encoded_as_bytes(vocabulary, text):
    pieces = vocabulary.encode(text)
    assert len(pieces) and pieces.max() < len(vocabulary)
    assert vocabulary.decode(pieces).strip() in (text, text.replace("\u200b", "").strip())


def test_a_vocabulary_is_stored_as_text_and_read_from_a_file(vocabulary, tmp_path):
    assert Vocabulary.from_text(vocabulary.as_text()).model == vocabulary.model
    (tmp_path / "spiece.model").write_bytes(vocabulary.model)
    assert Vocabulary.read(tmp_path / "spiece.model").encode("a").tolist() == vocabulary.encode("a").tolist()
    with pytest.raises(config.ConfigError, match="missing.model"):
        Vocabulary.read(tmp_path / "missing.model")
    with pytest.raises(config.ConfigError, match="SentencePiece"):
        Vocabulary(b"something else")


@pytest.mark.parametrize("pieces", [100, 400])
def test_of_more_characters_than_pieces_the_rare_ones_are_read_as_bytes(pieces):
    """As in any Chinese or Japanese catalogue."""
    characters = [chr(0x4E00 + place) for place in range(800)]
    texts = [character + character for place, character in enumerate(characters) for _ in range(1 + 20 * (place < 20))]
    vocabulary = Vocabulary.train(texts, pieces)
    assert vocabulary.decode(vocabulary.encode(texts[-1])) == texts[-1]
    assert len(vocabulary.encode(characters[0])) <= 2 < len(vocabulary.encode(characters[-1]))


def test_long_texts_are_part_of_the_vocabulary():
    """SentencePiece leaves texts of more than 4,192 bytes out by default."""
    vocabulary = Vocabulary.train(["好" * 1800 + " zebra" * 20, "ab"], 60)
    assert len(vocabulary.encode("zebra")) == 1


def test_the_end_piece_does_not_occur_in_texts(vocabulary):
    assert vocabulary.end not in vocabulary.encode(" ".join(TEXTS))
