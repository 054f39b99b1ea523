"""The words that a model knows: a SentencePiece model (Kudo & Richardson 2018), trained on the catalogue or given.

Trained by byte-pair merges: words that a catalogue has often become one piece, however small it is (on the synthetic
one, a prompt is 5 pieces long, where the unigram model needs 8). Pieces that no text taught are spelled by their bytes,
so that any language and any emoji can be read.
"""

import base64
import functools
import io
from collections.abc import Iterable

import numpy as np
import sentencepiece
from etils import epath

from genrec import config

LONGEST_TEXT = 2000  # characters of a text that are looked at


class Vocabulary:
    """Pieces 0 .. len - 1, of a serialized SentencePiece model."""

    def __init__(self, model: bytes):
        """Raises ConfigError where the bytes are no SentencePiece model."""
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._processor.get_piece_size()
        except Exception as problem:
            raise config.ConfigError(f"prompts.vocabulary: not a SentencePiece model ({problem})") from problem

    @staticmethod
    def train(texts: Iterable[str], pieces: int) -> "Vocabulary":
        """Learns at most so many pieces, and the 256 bytes. The same texts give the same model."""
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text[:LONGEST_TEXT] for text in texts),
            model_writer=written,
            model_type="bpe",
            vocab_size=pieces + 256 + 3,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=0.9995,
            normalization_rule_name="nmt_nfkc_cf",  # prompts are written in any case
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,  # more would make the result depend on their order
            minloglevel=2,
        )
        return Vocabulary(written.getvalue())

    @staticmethod
    def read(path: epath.PathLike) -> "Vocabulary":
        """A model that is given; raises ConfigError where there is none."""
        path = epath.Path(path)
        if not path.exists():
            raise config.ConfigError(f"prompts.vocabulary={str(path)!r}: no such file")
        return Vocabulary(path.read_bytes())

    @staticmethod
    def from_text(text: str) -> "Vocabulary":
        """What `as_text` gave."""
        return _decoded(text)

    def as_text(self) -> str:
        return base64.b64encode(self.model).decode()

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    @property
    def end(self) -> int:
        """The piece that ends a text."""
        return max(self._processor.eos_id(), 0)

    def encode(self, text: str) -> np.ndarray:
        """int32[n], without an end. Unknown characters become bytes, where the model has these."""
        return np.array(self._processor.encode(text), np.int32)

    def decode(self, pieces: Iterable[int]) -> str:
        return self._processor.decode([int(piece) for piece in pieces])


@functools.lru_cache(maxsize=4)
def _decoded(text: str) -> Vocabulary:
    return Vocabulary(base64.b64decode(text))
