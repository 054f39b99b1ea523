"""SentencePiece vocabularies (Kudo & Richardson 2018) of prompts and generated texts, and the encoding of prompts.

Trained by byte-pair merges: frequent words of a catalogue become single pieces even where it is small (on the synthetic
catalogue, a prompt has 5 pieces, under the unigram model 8). Byte fallback encodes characters that the training texts
lack, so that any language and any emoji can be read.
"""

import base64
import collections
import functools
import io
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import sentencepiece
from absl import logging
from etils import epath

from genrec import config
from genrec.errors import GenrecError

MAX_CHARACTERS = 2000  # of a text from which a vocabulary is trained; the rest is ignored
MOST_BYTES = 64 * MAX_CHARACTERS  # of such a text in UTF-8, once SentencePiece has normalized it
COVERAGE = 0.9995  # share of the texts' characters that become pieces
NORMALIZATION = "nmt_nfkc_cf"  # case folding: prompts are written in any case
SERVED_PROMPT = 6  # the longest prompt in serving, in multiples of the longest in training


class Vocabulary:
    """A SentencePiece model, whose pieces have the indices 0 .. len - 1."""

    def __init__(self, model: bytes):
        """Parses a serialized model; raises ConfigError where the bytes are not one."""
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._processor.get_piece_size()
        except Exception as problem:
            raise config.ConfigError(f"prompts.vocabulary: not a SentencePiece model ({problem})") from problem

    @staticmethod
    def train(texts: Iterable[str], pieces: int) -> "Vocabulary":
        """Trains at most `pieces` pieces, besides the 256 bytes. The same texts give the same model.

        Where the texts have more different characters than that, the most frequent ones become pieces, and the log says
        so: the others are read as bytes.
        """
        texts = list(texts)
        long = sum(len(text) > MAX_CHARACTERS for text in texts)
        if long:
            logging.info("vocabulary: of %d long texts, the first %d characters are read", long, MAX_CHARACTERS)
        texts = _without_rare_characters([text[:MAX_CHARACTERS] for text in texts], pieces)
        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=written,
                model_type="bpe",
                vocab_size=pieces + 256 + 3,
                hard_vocab_limit=False,
                byte_fallback=True,
                character_coverage=COVERAGE,
                max_sentence_length=MOST_BYTES,
                normalization_rule_name=NORMALIZATION,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                bos_id=-1,
                num_threads=1,  # with more, the result would depend on their order
                minloglevel=2,
            )
        except RuntimeError as problem:
            raise config.ConfigError(
                f"prompts.pieces={pieces}: too few for the texts of the catalogue ({problem})"
            ) from problem
        return Vocabulary(written.getvalue())

    @staticmethod
    def read(path: epath.PathLike) -> "Vocabulary":
        """Reads a model file; raises ConfigError where there is none."""
        path = epath.Path(path)
        if not path.exists():
            raise config.ConfigError(f"prompts.vocabulary={str(path)!r}: no such file")
        return Vocabulary(path.read_bytes())

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def from_text(text: str) -> "Vocabulary":
        """Returns the vocabulary that `as_text` wrote."""
        return Vocabulary(base64.b64decode(text))

    def as_text(self) -> str:
        """Returns the serialized model in base64."""
        return base64.b64encode(self.model).decode()

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    @property
    def end(self) -> int:
        """Returns the piece that ends a text."""
        return max(self._processor.eos_id(), 0)

    @functools.cached_property
    def continues_word(self) -> np.ndarray:
        """Returns bool[pieces]: the pieces that continue the word of the piece before them."""
        pieces = [self._processor.id_to_piece(piece) for piece in range(len(self))]
        for piece in filter(self._processor.is_byte, range(len(self))):
            byte = int(pieces[piece].strip("<>"), 16)
            pieces[piece] = chr(byte) if byte < 128 else "a"  # one of a letter in another script
        return np.array([piece[:1].isalnum() for piece in pieces])

    def encode(self, text: str) -> np.ndarray:
        """Returns int32[n], the pieces of a text, without the end. Unknown characters become bytes, where possible."""
        return np.array(self._processor.encode(text), np.int32)

    def decode(self, pieces: Iterable[int]) -> str:
        return self._processor.decode([int(piece) for piece in pieces])


def _without_rare_characters(texts: list[str], pieces: int) -> list[str]:
    """Returns the texts, without their rarest characters if there are more than can become pieces."""
    if len(set(itertools.chain.from_iterable(texts))) < pieces:
        return texts
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name=NORMALIZATION)
    normalized = [normalizer.normalize(text) for text in texts]
    counts = collections.Counter(itertools.chain.from_iterable(normalized))
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    reached = np.cumsum([counts[character] for character in ordered]) >= COVERAGE * counts.total()
    if int(np.argmax(reached)) + 3 <= pieces:  # SentencePiece takes that many, and one for the space
        return texts
    kept = max(1, pieces // 2)  # words need the other half
    logging.info(
        "vocabulary: the texts have %d different characters; the %d most frequent become pieces, the others are read "
        "as bytes. A larger prompts.pieces takes more of them",
        len(ordered),
        kept,
    )
    rare = str.maketrans(dict.fromkeys(ordered[kept:], " "))
    return [text.translate(rare) for text in normalized]


class PromptError(GenrecError):
    """A prompt that the model cannot read."""


class PromptTokenizer(NamedTuple):
    """Encodes prompts with the vocabulary of a model."""

    vocabulary: Vocabulary
    longest: int  # pieces of a prompt in training
    # bool[pieces] that occur in training; the others, whose embeddings are random, are skipped. None: all occur
    trained: np.ndarray | None = None

    def encode(self, text: str, serving: bool = True) -> np.ndarray:
        """Returns the pieces int32[n] of a prompt that occur in training.

        In training, a prompt is truncated to `longest` pieces; in serving, one that is too long raises PromptError.
        """
        pieces, longest = self.vocabulary.encode(text), self.longest * (SERVED_PROMPT if serving else 1)
        if self.trained is not None:
            pieces = pieces[self.trained[pieces]]
        if serving and len(pieces) > longest:
            raise PromptError(
                f"a prompt of {len(text):,} characters is {len(pieces):,} pieces long; at most {longest} can be read. "
                f"Shorten it to what matters: {text[:60]!r} ..."
            )
        return pieces[:longest]
