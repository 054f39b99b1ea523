"""Index of a split by user id, which finds the sequences of given users without a scan.

`dataset/user_index/<split>.npy` holds uint64[2, sequences]: 64-bit hashes of the user ids in ascending order, and the
position of each user's sequence in the split. The file is memory-mapped, and a lookup is a binary search. Hashes may
collide: the caller compares the user ids of the sequences at the positions that it gets.
"""

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterable

import numpy as np
from absl import logging
from etils import epath

from genrec.files import save_array


def path_of(dataset: epath.Path, split: str) -> epath.Path:
    """Returns the path of a split's index."""
    return dataset / "user_index" / f"{split}.npy"


def hashes_of(user_ids: Iterable[str]) -> np.ndarray:
    """Returns uint64[users]: the first 8 bytes of BLAKE2b of each id, the same on every machine."""
    digests = (hashlib.blake2b(user_id.encode(), digest_size=8).digest() for user_id in user_ids)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)


def write(path: epath.Path, hashes: np.ndarray) -> np.ndarray:
    """Writes and returns the index of a split. `hashes`: uint64[sequences], of the user ids, in the split's order."""
    order = np.argsort(hashes, kind="stable")
    index = np.stack([hashes[order], order.astype(np.uint64)])
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial")  # of this writer alone
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_array(temporary, index)
        temporary.replace(path)
    except OSError as problem:
        logging.info("%s cannot be written, and is kept in memory: %s", path, problem)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return index


def load(path: epath.Path, read_ids: Callable[[], Iterable[str]]) -> np.ndarray:
    """Returns the index of a split; if it has none, as of an earlier version, builds it from the ids of `read_ids`.

    Readers that build it at the same time write the same file, each under a temporary name first.
    """
    if path.exists():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return write(path, hashes_of(read_ids()))


def positions(index: np.ndarray, user_ids: Iterable[str]) -> np.ndarray:
    """Returns int64[n] in ascending order: the positions of the sequences of these users, and of equal hashes."""
    wanted = np.unique(hashes_of(user_ids))
    starts, stops = (np.searchsorted(index[0], wanted, side=side) for side in ("left", "right"))
    ranges = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return np.sort(index[1, np.concatenate([np.zeros(0, np.int64), *ranges])].astype(np.int64))
