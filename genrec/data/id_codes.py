"""Dictionary codes of ids, given as blocks of a log are read."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class IdCodes:
    """Codes 0, 1, ... of texts in the order of their first appearance; holds each text once."""

    def __init__(self) -> None:
        self.texts: pa.Array = pa.array([], pa.large_string())  # beyond 2 GiB, where string ends

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, texts: pa.DictionaryArray) -> np.ndarray:
        """Returns int32[n], the codes of texts without nulls; those that are new get the next ones."""
        distinct = texts.dictionary.cast(pa.large_string())
        known = pc.index_in(distinct, self.texts)
        is_new = known.is_null()
        codes = known.fill_null(0).to_numpy().copy()
        new = is_new.to_numpy(zero_copy_only=False)
        codes[new] = len(self) + np.arange(np.count_nonzero(new))
        self.texts = pa.concat_arrays([self.texts, distinct.filter(is_new)])
        return codes.astype(np.int32)[texts.indices.to_numpy()]
