"""Requests for recommendations: a history and conditioning inputs, from users of a split or from item ids."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence

import numpy as np

from genrec.data.dataset import Catalogue, Dataset, Sequence, Sequences
from genrec.data.errors import DataError
from genrec.data.filters import Filter
from genrec.data.timestamps import SECOND
from genrec.errors import shown
from genrec.serving.profiles import NO_PROFILE, Profile

NO_HISTORY = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Request:
    """A history to recommend for, with context overrides, prompt and taste profile."""

    name: str  # user id, or a description
    history: np.ndarray  # int[n], catalogue rows, oldest first
    target: int | None = None  # catalogue row, where known
    context_overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)  # feature -> value
    prompt: str = ""  # later lines go on from earlier ones, and override what contradicts them
    profile: Profile = NO_PROFILE
    ages: np.ndarray | None = None  # int64[n], how long before the request each event was, in seconds; for words alone
    rules: bool = True  # whether parts of the prompt may be rules
    parts_off: frozenset[int] = frozenset()  # numbers of the parts of the prompt, as understood, that are switched off

    @property
    def known_ages(self) -> np.ndarray | None:
        """`ages` if they are those of this history, else None: a history may have been replaced."""
        return self.ages if self.ages is not None and len(self.ages) == len(self.history) else None

    def with_event(self, item: int) -> "Request":
        """Returns the request after a further event, of a catalogue row, at the time of the request."""
        known = self.known_ages
        ages = None if known is None else np.append(known, 0)
        return dataclasses.replace(self, history=np.append(self.history, item), ages=ages)

    def without_events(self, places: np.ndarray) -> "Request":
        """Returns the request without the events at places int[n] of the history."""
        known = self.known_ages
        ages = None if known is None else np.delete(known, places)
        return dataclasses.replace(self, history=np.delete(self.history, places), ages=ages)


def build_requests(
    dataset: Dataset, split: str, users: int, user_ids: AbstractSequence[str], item_ids: AbstractSequence[str] | None
) -> list[Request]:
    """Returns requests for `users` sampled users of a split, then for `user_ids`, then for a history of `item_ids`.

    An empty `item_ids` is a request without a history; None makes no such request. Raises DataError for unknown users
    and items, and if there is no request.
    """
    sequences = dataset.split(split)
    found = sample_users(sequences, users)
    if user_ids:
        found += find_users(sequences, user_ids)
    if item_ids is not None:
        found.append(from_items(dataset.catalogue, item_ids))
    if not found:
        raise DataError("no users to recommend for. Give --users=3, or --user=ID,ID or --items=ID,ID,ID.")
    return found


def sample_users(sequences: Sequences, users: int) -> list[Request]:
    """Returns requests for a fixed sample of the users with at least 3 history items, or of all if there are none."""
    candidates = np.flatnonzero(sequences.lengths > 3)
    if not len(candidates):
        candidates = np.arange(len(sequences))
    chosen = np.random.default_rng(0).permutation(candidates)[:users]
    return [_request(sequence) for sequence in sequences.read(chosen)]


def sample_split(sequences: Sequences, users: int) -> list[Request]:
    """Returns requests for a fixed uniform sample of users of a validation or test split; 0 takes all of them."""
    chosen = np.arange(len(sequences))
    if 0 < users < len(chosen):
        chosen = np.sort(np.random.default_rng(0).choice(chosen, users, replace=False))
    return [_request(sequence) for sequence in sequences.read(chosen)]


def find_users(sequences: Sequences, user_ids: AbstractSequence[str]) -> list[Request]:
    """The histories of these users in a validation or test split, in this order; raises DataError for unknown ones."""
    found = sequences.of_users(user_ids)
    missing = [user_id for user_id in user_ids if user_id not in found]
    if missing:
        raise DataError(
            f"no user {shown(missing[0])} in this split. Users with too short a history are only in training; give "
            "their items instead (--items)."
        )
    return [_request(found[user_id]) for user_id in user_ids]


def from_items(catalogue: Catalogue, item_ids: AbstractSequence[str]) -> Request:
    """Returns a request for a history of item ids, oldest first; raises DataError for an unknown id."""
    return Request("given items", catalogue_rows(catalogue, item_ids))


def catalogue_rows(catalogue: Catalogue, item_ids: AbstractSequence[str]) -> np.ndarray:
    """Returns the catalogue rows int32[n] of item ids; raises DataError for an unknown id."""
    missing = [item_id for item_id in item_ids if item_id not in catalogue.index]
    if missing:
        raise DataError(f"no item {shown(missing[0])} in the catalogue. Item ids are written as in the items file.")
    return np.array([catalogue.index[item_id] for item_id in item_ids], np.int32)


def with_allow_deny(
    item_filter: Filter, catalogue: Catalogue, allow: AbstractSequence[str] | None, deny: AbstractSequence[str]
) -> Filter:
    """Returns a filter with an allow list (None: all) and a deny list of item ids; raises DataError for unknown ids."""
    allowed = None if allow is None else frozenset(catalogue_rows(catalogue, allow).tolist())
    return dataclasses.replace(item_filter, allow=allowed, deny=frozenset(catalogue_rows(catalogue, deny).tolist()))


def _request(sequence: Sequence) -> Request:
    items, times = sequence.items, sequence.timestamps
    return Request(sequence.user_id, items[:-1], int(items[-1]), ages=(times[-1] - times[:-1]) // SECOND)
