"""Dictionary codes of ids, given as blocks of a log are read."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec.data.hashing import mixed

MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)  # of the first bytes of a word


class IdCodes:
    """Codes 0, 1, ... of texts in the order of their first appearance; holds each text once.

    A text is found by a binary search for its hash, and compared, so that a block takes the time of its own texts.
    pyarrow's `index_in` hashes all texts that are held for every block.
    """

    def __init__(self) -> None:
        self.texts: pa.Array = pa.array([], pa.large_string())  # beyond 2 GiB, where string ends
        self._hashes = np.zeros(0, np.uint64)  # of texts, ascending, all different
        self._codes = np.zeros(0, np.int32)  # of the text of each hash
        self._colliding: dict[str, int] = {}  # codes of texts whose hash is that of another text

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "IdCodes":
        """Returns the codes of a column of texts: the row of each, if all are different and none is missing."""
        codes = cls()
        codes.add(column.cast(pa.large_string()).fill_null("").dictionary_encode().combine_chunks())
        return codes

    def add(self, texts: pa.DictionaryArray) -> np.ndarray:
        """Returns int32[n], the codes of texts without nulls; those that are new get the next ones."""
        distinct = texts.dictionary.cast(pa.large_string())
        hashes = hashes_of(distinct)
        codes = self._find(distinct, hashes)
        new = np.flatnonzero(codes < 0)
        if len(new):
            codes[new] = len(self) + np.arange(len(new))
            self._insert(distinct.take(pa.array(new)), hashes[new], codes[new])
        return codes[texts.indices.to_numpy()]

    def find(self, texts: pa.Array) -> np.ndarray:
        """Returns int32[n], the codes of different texts without nulls; -1 for those that are new."""
        texts = texts.cast(pa.large_string())
        return self._find(texts, hashes_of(texts))

    def _find(self, texts: pa.LargeStringArray, hashes: np.ndarray) -> np.ndarray:
        codes = np.full(len(texts), -1, np.int32)
        order = np.argsort(hashes)  # a search is several times as fast for ascending values
        places = np.searchsorted(self._hashes, hashes[order])
        places[places == len(self._hashes)] = 0
        known = self._hashes[places] == hashes[order] if len(self._hashes) else np.zeros(len(texts), bool)
        rows = order[known]
        codes[rows] = self._codes[places[known]]
        equal = pc.equal(self.texts.take(pa.array(codes[rows])), texts.take(pa.array(rows)))
        for row in rows[~equal.to_numpy(zero_copy_only=False)].tolist():
            codes[row] = self._colliding.get(texts[row].as_py(), -1)
        return codes

    def _insert(self, texts: pa.LargeStringArray, hashes: np.ndarray, codes: np.ndarray) -> None:
        """Adds new texts with the next codes, in their order."""
        self.texts = pa.concat_arrays([self.texts, texts])
        distinct, first = np.unique(hashes, return_index=True)
        places = np.searchsorted(self._hashes, distinct)
        free = np.append(self._hashes, np.uint64(0))[places] != distinct
        free |= places == len(self._hashes)
        chosen = first[free]
        self._hashes = np.insert(self._hashes, places[free], hashes[chosen])
        self._codes = np.insert(self._codes, places[free], codes[chosen])
        collides = np.ones(len(hashes), bool)
        collides[chosen] = False
        for row in np.flatnonzero(collides).tolist():
            self._colliding[texts[row].as_py()] = int(codes[row])


def hashes_of(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns uint64[n], hashes of texts without nulls, computed from eight bytes of all of them at a time."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
    start, lengths = offsets[:-1], np.diff(offsets)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    if len(data) < 8:
        data = np.append(data, np.zeros(8, np.uint8))
    words = np.lib.stride_tricks.as_strided(data[:8].view(np.uint64), (len(data) - 7,), (1,))  # from every byte on
    hashes = lengths.astype(np.uint64)
    for first in range(0, int(lengths.max(initial=0)), 8):
        some = np.flatnonzero(lengths > first)
        at = start[some] + first
        full = np.minimum(at, len(words) - 1)  # the last words are those that end with the data
        word = words[full] >> (8 * (at - full)).astype(np.uint64)
        hashes[some] = mixed(hashes[some] ^ (word & MASKS[np.minimum(lengths[some] - first, 8)]))
    return hashes
