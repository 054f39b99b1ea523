"""The validated log of interactions, as arrays."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Parallel arrays, in the order of the file."""

    user_ids: np.ndarray  # object[users], strings, in order of first appearance
    users: np.ndarray  # int64[n], rows of user_ids
    items: np.ndarray  # int64[n], rows of the items table
    timestamps: np.ndarray  # int64[n], seconds since 1970, or the order where the log has no times
    event_types: np.ndarray | None = None  # object[n], strings
    ratings: np.ndarray | None = None  # float64[n]

    def __len__(self) -> int:
        return len(self.users)

    def select(self, kept: np.ndarray) -> "Interactions":
        """The interactions where `kept` (bool[n]) holds; `user_ids` stays as it is."""
        columns = {
            field: None if getattr(self, field) is None else getattr(self, field)[kept]
            for field in ("users", "items", "timestamps", "event_types", "ratings")
        }
        return dataclasses.replace(self, **columns)
