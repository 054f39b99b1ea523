"""Lists of users in a temporary file, so that memory does not grow with users x beams."""

import tempfile

import numpy as np

ITEM = np.dtype(np.int32)


class SpilledLists:
    """Lists int32[users, length], written for users in any order and read as an array is, by slices of users.

    They lie in a file without a name in the folder of `tempfile` (TMPDIR), which the system removes with this object.
    """

    def __init__(self, users: int, length: int):
        """Starts with zeros, which take no space."""
        self.shape = users, length
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as this object)
        self._file.truncate(users * self._width)

    @property
    def _width(self) -> int:
        return self.shape[1] * ITEM.itemsize  # bytes of a list

    def __len__(self) -> int:
        return self.shape[0]

    def write(self, places: np.ndarray, lists: np.ndarray) -> None:
        """Writes the lists int32[n, length] of the users at `places` int[n]."""
        for place, row in zip(places.tolist(), np.ascontiguousarray(lists, ITEM), strict=True):
            self._file.seek(place * self._width)
            self._file.write(row.data)

    def __getitem__(self, users: slice) -> np.ndarray:
        """Returns int32[n, length], the lists of consecutive users."""
        start, stop, step = users.indices(len(self))
        if step != 1:
            raise ValueError(f"lists of consecutive users can be read; got a step of {step}")
        self._file.seek(start * self._width)
        content = self._file.read(max(0, stop - start) * self._width)
        return np.frombuffer(content, ITEM).reshape(-1, self.shape[1])
