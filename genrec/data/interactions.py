"""Validated log of interactions, as arrays."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Parallel arrays of interactions, in the order of the file."""

    user_ids: np.ndarray  # object[users], strings, in order of first appearance
    users: np.ndarray  # int64[n], rows of user_ids
    items: np.ndarray  # int64[n], rows of the items table
    timestamps: np.ndarray  # int64[n], microseconds since 1970, or the order where the log has no times
    event_types: np.ndarray | None = None  # object[n], strings
    ratings: np.ndarray | None = None  # float64[n]

    def __len__(self) -> int:
        return len(self.users)

    def select(self, kept: np.ndarray) -> "Interactions":
        """Returns the interactions where `kept` (bool[n]) is True; `user_ids` stays as it is."""
        event_types = None if self.event_types is None else self.event_types[kept]
        ratings = None if self.ratings is None else self.ratings[kept]
        users, items, timestamps = self.users[kept], self.items[kept], self.timestamps[kept]
        return Interactions(self.user_ids, users, items, timestamps, event_types, ratings)
