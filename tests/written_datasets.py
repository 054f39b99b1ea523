"""Datasets that tests write as they need them, past the stage `prepare`."""

import numpy as np

from genrec.data import dataset, splits


def contents_of(parts, catalogue, statistics):
    """Returns the dataset in which each split has other users: the sequences that are given for it."""
    own = [(name, sequence) for name in splits.NAMES for sequence in parts.get(name, ())]
    offsets = np.concatenate([[0], np.cumsum([len(sequence.items) for _, sequence in own])])
    items, times = (np.concatenate([getattr(s, field) for _, s in own]) for field in ("items", "timestamps"))
    ends = {n: np.array([len(s.items) * (n == name) for name, s in own]) for n in splits.NAMES}
    users = ([s.user_id for _, s in own], splits.UserSequences(offsets, items, times))
    return dataset.Contents([users], ends, catalogue, None, statistics)
