"""Requests: whose history, and what a user asks for; from users of a split, or from items."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence

import numpy as np

from genrec.data.dataset import Catalogue, Dataset, Sequence, Sequences
from genrec.data.errors import DataError
from genrec.data.filters import Filter
from genrec.progress import progress
from genrec.serving.profiles import Profile

# Records read at a time while looking for users.
CHUNK = 10_000
NOT_HEARD = np.zeros(0, np.int32)  # the history of who has none


@dataclasses.dataclass(frozen=True)
class Request:
    """A history to recommend for, and what the user says."""

    name: str  # user id, or a description
    history: np.ndarray  # int[n], catalogue rows, oldest first
    target: int | None = None  # catalogue row, where known
    context_overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)  # feature -> value
    prompt: str = ""
    profile: Profile | None = None


def requests(
    dataset: Dataset, split: str, users: int, user_ids: AbstractSequence[str], item_ids: AbstractSequence[str] | None
) -> list[Request]:
    """So many users of a split, then these users of it, then a history of these items, which may be empty.

    Raises DataError for users and items that are not there, and when nothing is asked for.
    """
    sequences = dataset.split(split)
    found = sample_users(sequences, users)
    if user_ids:
        found += find_users(sequences, user_ids)
    if item_ids is not None:
        found.append(from_items(dataset.catalogue, item_ids))
    if not found:
        raise DataError("nobody to recommend for. Give --users=3, or --user=ID,ID or --items=ID,ID,ID.")
    return found


def sample_users(sequences: Sequences, users: int) -> list[Request]:
    """A fixed choice of users of a validation or test split; those with at least 3 history items if there are any."""
    candidates = np.flatnonzero(sequences.lengths > 3)
    if not len(candidates):
        candidates = np.arange(len(sequences))
    chosen = np.random.default_rng(0).permutation(candidates)[:users]
    return [_request(record) for record in sequences.read(chosen)]


def requests_of(sequences: Sequences, users: int) -> list[Request]:
    """So many users of a validation or test split, whatever their histories; 0 takes all."""
    chosen = np.arange(len(sequences))
    if 0 < users < len(chosen):
        chosen = np.sort(np.random.default_rng(0).choice(chosen, users, replace=False))
    return [_request(record) for record in sequences.read(chosen)]


def find_users(sequences: Sequences, user_ids: AbstractSequence[str]) -> list[Request]:
    """The histories of these users in a validation or test split, in this order; raises DataError for unknown ones."""
    found = {}
    wanted = set(user_ids)
    for start in progress(range(0, len(sequences), CHUNK), "look for users"):
        for record in sequences.read(np.arange(start, min(start + CHUNK, len(sequences)))):
            if record.user_id in wanted:
                found[record.user_id] = _request(record)
        if len(found) == len(wanted):
            break
    missing = [user_id for user_id in user_ids if user_id not in found]
    if missing:
        raise DataError(
            f"no user {missing[0]!r} in this split. Users with too short a history are only in training; give their "
            "items instead (--items)."
        )
    return [found[user_id] for user_id in user_ids]


def from_items(catalogue: Catalogue, item_ids: AbstractSequence[str]) -> Request:
    """A history given as item ids, oldest first; raises DataError for an unknown one."""
    return Request("given items", rows_of(catalogue, item_ids))


def rows_of(catalogue: Catalogue, item_ids: AbstractSequence[str]) -> np.ndarray:
    """int32[n]: the catalogue rows of these items; raises DataError for an unknown one."""
    missing = [item_id for item_id in item_ids if item_id not in catalogue.index]
    if missing:
        raise DataError(f"no item {missing[0]!r} in the catalogue. Item ids are written as in the items file.")
    return np.array([catalogue.index[item_id] for item_id in item_ids], np.int32)


def with_items(
    wanted: Filter, catalogue: Catalogue, allow: AbstractSequence[str] | None, deny: AbstractSequence[str]
) -> Filter:
    """The same filter for these items (None: all) but those; raises DataError for unknown ones."""
    allowed = None if allow is None else frozenset(rows_of(catalogue, allow).tolist())
    return dataclasses.replace(wanted, allow=allowed, deny=frozenset(rows_of(catalogue, deny).tolist()))


def _request(record: Sequence) -> Request:
    return Request(record.user_id, record.items[:-1], int(record.items[-1]))
