"""The dataset as it was before some of its items existed: to measure how new items are recommended."""

import hashlib

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import artifacts
from genrec.data import dataset as datasets
from genrec.data import splits, statistics
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError


def choose(item_ids: list[str], share: float, seed: int) -> np.ndarray:
    """bool[items]: the items to hold out, a random share of them that depends on their ids and the seed alone."""
    keys = [hashlib.blake2b(f"{seed} {item_id}".encode(), digest_size=8).digest() for item_id in item_ids]
    held_out = np.zeros(len(item_ids), bool)
    held_out[np.argsort(keys, kind="stable")[: round(share * len(item_ids))]] = True
    return held_out


def hold_out(dataset_path: epath.PathLike, path: epath.PathLike, share: float = 0.1, seed: int = 0) -> None:
    """Writes into `path` the dataset of `dataset_path` without a share of its items; nothing if it is up to date.

    They are taken out of the catalogue and of every sequence, which are then split anew; see `without`.

    Raises DataError for a share that cannot be, or for a dataset that was split by time.
    """
    if not 0 < share < 1:
        raise DataError(f"share={share}: give a part of the items, between 0 and 1.")
    whole = Dataset(dataset_path)
    made = artifacts.read(dataset_path, datasets.KIND)
    if made.config["split"] != "leave_one_out":
        raise DataError(
            f"{dataset_path} was split by time. Items are held out of datasets with data.split=leave_one_out."
        )
    settings = {**made.config, "held_out": share, "held_out_seed": seed}
    recipe = artifacts.hash_of("held out", whole.fingerprint, share, seed)
    if artifacts.up_to_date(path, datasets.KIND, recipe):
        return
    catalogue = whole.catalogue
    held_out = choose(catalogue.item_ids, share, seed)
    user_ids, sequences = _whole_sequences(whole)
    sequences, ends = without(sequences, held_out)
    records = {name: datasets.records(user_ids, sequences, lengths) for name, lengths in ends.items()}
    datasets.check_no_leak(records)
    left = catalogue.table.filter(pa.array(~held_out))
    figures = statistics.summarize(
        lengths=sequences.lengths[sequences.lengths > 0],
        popularity=np.bincount(sequences.items, minlength=len(left)),
        times=None,
        records={name: len(split.lengths) for name, split in records.items()},
        before_filtering=int(whole.statistics["interactions"]),
        text_fields=tuple(whole.statistics["text_fields"]),
        catalogue=left,
    )
    inputs = {"whole": whole.fingerprint}
    with artifacts.writing(path, datasets.KIND, recipe, config=settings, inputs=inputs) as draft:
        datasets.write(draft.path, records, left, whole.users, figures)
    print(f"Held {held_out.sum():,} of {len(catalogue):,} items out of {path}\n{statistics.table(figures)}")


def without(
    sequences: splits.UserSequences, held_out: np.ndarray
) -> tuple[splits.UserSequences, dict[str, np.ndarray]]:
    """Sequences without the items of bool[items], which are counted anew, and their split as `splits.leave_one_out`.

    What the whole sequences ask for in validation and test is never trained on: of those that become too short to be
    asked for anything, the items before these two train.
    """
    kept = ~held_out[sequences.items]
    from_end = np.repeat(sequences.offsets[1:], sequences.lengths) - np.arange(len(sequences.items))  # 1 is the last
    asked_for = (from_end <= 2) & (sequences.lengths >= 3)[sequences.users]
    may_train = np.bincount(sequences.users[kept & ~asked_for], minlength=len(sequences.lengths))
    left = sequences.select(kept)
    left = splits.UserSequences(left.offsets, (np.cumsum(~held_out) - 1)[left.items], left.timestamps)
    ends = splits.leave_one_out(left)
    return left, {**ends, "train": np.minimum(ends["train"], may_train)}


def _whole_sequences(dataset: Dataset) -> tuple[list[str], splits.UserSequences]:
    """Users, and their longest records: that of the test split where they have one."""
    longest: dict[str, datasets.Sequence] = {}
    for name in splits.NAMES:  # each split's records are at least as long as those of the one before
        split = dataset.split(name)
        for record in split.read(np.arange(len(split))):
            longest[record.user_id] = record
    lengths = [len(record.items) for record in longest.values()]
    items, times = (
        np.concatenate([getattr(record, field) for record in longest.values()]) for field in ("items", "timestamps")
    )
    return list(longest), splits.UserSequences(np.concatenate([[0], np.cumsum(lengths)]), items, times)
