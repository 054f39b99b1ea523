"""Dataset without a held-out share of its items, to measure how items that are new to the model are recommended."""

import hashlib

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import artifacts, printing, shares
from genrec.data import dataset as datasets
from genrec.data import splits, statistics
from genrec.data.dataset import Dataset
from genrec.data.errors import DataError


def choose(item_ids: list[str], share: float, seed: int) -> np.ndarray:
    """Returns bool[items], the items to hold out: a random share that depends on the item ids and the seed alone."""
    keys = [hashlib.blake2b(f"{seed} {item_id}".encode(), digest_size=8).digest() for item_id in item_ids]
    held_out = np.zeros(len(item_ids), bool)
    held_out[np.argsort(keys, kind="stable")[: shares.nearest(share, len(item_ids))]] = True
    return held_out


def hold_out(dataset_path: epath.PathLike, path: epath.PathLike, share: float = 0.1, seed: int = 0) -> None:
    """Writes the dataset in `dataset_path`, without a share of its items, to `path`, unless it is up to date.

    The items are removed from the catalogue and from every sequence, which are then split again; see `without`.

    Raises DataError if the share is not between 0 and 1, or if the dataset was split by time, and ArtifactError if
    there is none, if both folders are the same, or if a model was trained on another dataset in `path`.
    """
    if not 0 < share < 1:
        raise DataError(f"share must be between 0 and 1, got {share}.")
    artifacts.check_apart(path, **{"the whole dataset": dataset_path})
    whole = Dataset(dataset_path)
    made = artifacts.read(dataset_path, datasets.KIND)
    if made.config["split"] != "leave_one_out":
        raise DataError(
            f"{dataset_path} was split by time. Items can be held out of datasets with data.split=leave_one_out only."
        )
    settings = {**made.config, "held_out": share, "held_out_seed": seed}
    recipe = artifacts.hash_of("held out", whole.fingerprint, share, seed)
    if artifacts.up_to_date(path, datasets.KIND, recipe, models=artifacts.MODELS):
        return
    catalogue = whole.catalogue
    held_out = choose(catalogue.item_ids, share, seed)
    user_ids, sequences = _whole_sequences(whole)
    sequences, ends = without(sequences, held_out)
    left = catalogue.table.filter(pa.array(~held_out))
    known = None
    if whole.users is not None:
        kept_users = [user for user, length in zip(user_ids, sequences.lengths, strict=True) if length]
        known = len(set(kept_users) & set(whole.users["user_id"].to_pylist()))
    source = statistics.Source(
        interactions=int(whole.statistics["interactions"]),
        items=catalogue.source_items,
        text_fields=tuple(whole.statistics["text_fields"]),
        types=whole.statistics["types"],
    )
    figures = statistics.summarize(
        source,
        lengths=sequences.lengths[sequences.lengths > 0],
        popularity=np.bincount(sequences.items, minlength=len(left)),
        pairs=sequences.pairs,
        ties=sequences.ties,
        times=(sequences.timestamps.min(), sequences.timestamps.max()) if whole.has_times else None,
        sequences=splits.counts(ends),
        catalogue=left,
        users_with_attributes=known,
    )
    inputs = {"whole": whole.fingerprint}
    with artifacts.writing(path, datasets.KIND, recipe, config=settings, inputs=inputs) as draft:
        datasets.write(draft.path, datasets.Contents([(user_ids, sequences)], ends, left, whole.users, figures))
    printing.show(f"Held {held_out.sum():,} of {len(catalogue):,} items out of {path}\n{statistics.table(figures)}")


def without(
    sequences: splits.UserSequences, held_out: np.ndarray
) -> tuple[splits.UserSequences, dict[str, np.ndarray]]:
    """Removes the held-out items (bool[items]), and splits what remains.

    The original validation and test targets are never trained on: of a sequence that becomes too short to be evaluated,
    only the items before them are in the training split.

    Returns:
      The sequences, with the remaining items renumbered from 0, and their split, as `splits.leave_one_out`.
    """
    kept = ~held_out[sequences.items]
    from_end = np.repeat(sequences.offsets[1:], sequences.lengths) - np.arange(len(sequences.items))  # 1 is the last
    targets = (from_end <= 2) & (sequences.lengths >= 3)[sequences.users]
    may_train = np.bincount(sequences.users[kept & ~targets], minlength=len(sequences.lengths))
    left = sequences.select(kept)
    left = splits.UserSequences(left.offsets, (np.cumsum(~held_out) - 1)[left.items], left.timestamps)
    ends = splits.leave_one_out(left)
    return left, {**ends, "train": np.minimum(ends["train"], may_train)}


def _whole_sequences(dataset: Dataset) -> tuple[list[str], splits.UserSequences]:
    """Returns the user ids, and the users' whole sequences: those of the test split where they have one."""
    longest: dict[str, datasets.Sequence] = {}
    for name in splits.NAMES:  # a user's sequence is at least as long as in the split before
        split = dataset.split(name)
        longest |= {sequence.user_id: sequence for sequence in split.read(np.arange(len(split)))}
    lengths = [len(sequence.items) for sequence in longest.values()]
    items = np.concatenate([sequence.items for sequence in longest.values()])
    times = np.concatenate([sequence.timestamps for sequence in longest.values()])
    return list(longest), splits.UserSequences(np.concatenate([[0], np.cumsum(lengths)]), items, times)
