"""Import of a dataset's histories into a store, for a server that goes on from the log of the training."""

from collections.abc import Iterator

from genrec.data.dataset import Dataset, Sequence
from genrec.progress import progress
from genrec.serving.store.errors import ConflictError, StoreError
from genrec.serving.store.store import Event, Store

USERS = 500  # of a transaction
TRAINING = "train"  # the split whose sequences have no target


def import_histories(dataset: Dataset, split: str, store: Store, targets: bool = False) -> tuple[int, int]:
    """Appends the histories of a split to the events of their users, and returns how many users and new events.

    The history of a validation or test sequence is all before its target, as in tools/recommend.py; with `targets` the
    target too. A user's history of a dataset is appended once: an import that was stopped goes on where it was. Raises
    StoreError if another history of that dataset, that of another split, was imported before.
    """
    sequences, known, new = dataset.split(split), dataset.catalogue.item_ids, 0
    kept_back = 0 if targets or split == TRAINING else 1
    starts = range(0, len(sequences), USERS)
    for start in progress(starts, f"importing histories, by {USERS} users"):
        batch = sequences.read(range(start, min(start + USERS, len(sequences))))
        histories = {sequence.user_id: list(_events(sequence, known, kept_back)) for sequence in batch}
        try:
            new += store.append_histories(histories, f"import {dataset.fingerprint}")
        except ConflictError as error:
            raise StoreError(
                f"the store has other histories of {dataset.path}, of another split or with targets ({error}) Import "
                "into a new store."
            ) from error
    return len(sequences), new


def _events(sequence: Sequence, item_ids: list[str], kept_back: int) -> Iterator[Event]:
    count = len(sequence.items) - kept_back
    for item, time in zip(sequence.items[:count].tolist(), sequence.timestamps[:count].tolist(), strict=True):
        yield Event(item_ids[item], time)
