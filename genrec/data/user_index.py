"""Index of a split by user id, which finds the sequences of given users without a scan.

`dataset/user_index/<split>.npy` holds uint64[2, sequences]: 64-bit hashes of the user ids in ascending order, and the
position of each user's sequence in the split. The file is memory-mapped, and a lookup is a binary search. Hashes may
collide: the caller compares the user ids of the sequences at the positions that it gets.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from etils import epath


def path_of(dataset: epath.Path, split: str) -> epath.Path:
    """Returns the path of a split's index."""
    return dataset / "user_index" / f"{split}.npy"


def hashes_of(user_ids: Iterable[str]) -> np.ndarray:
    """Returns uint64[users]: the first 8 bytes of BLAKE2b of each id, the same on every machine."""
    digests = (hashlib.blake2b(user_id.encode(), digest_size=8).digest() for user_id in user_ids)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)


def of_hashes(hashes: np.ndarray) -> np.ndarray:
    """Returns the index of a split. `hashes`: uint64[sequences], of the user ids, in the split's order."""
    order = np.argsort(hashes, kind="stable")
    return np.stack([hashes[order], order.astype(np.uint64)])


def positions(index: np.ndarray, user_ids: Iterable[str]) -> np.ndarray:
    """Returns int64[n] in ascending order: the positions of the sequences of these users, and of equal hashes."""
    wanted = np.unique(hashes_of(user_ids))
    starts, stops = (np.searchsorted(index[0], wanted, side=side) for side in ("left", "right"))
    ranges = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return np.sort(index[1, np.concatenate([np.zeros(0, np.int64), *ranges])].astype(np.int64))
