"""Chooses which interactions count: by event type, by rating, and by k-core."""

import numpy as np

from genrec import config as configs
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions


def by_config(log: Interactions, config: configs.Data) -> Interactions:
    """Applies the filters of the config in turn; raises `DataError` when one of them leaves nothing."""
    if config.event_types:
        if log.event_types is None:
            raise DataError(
                "data.event_types is set, but the interactions have no column event_type. Empty the setting."
            )
        present = ", ".join(sorted(set(log.event_types))[:20])
        log = log.select(np.isin(log.event_types, config.event_types))
        _refuse_empty(
            log,
            f"data.event_types={config.event_types} keeps none of the event types in the data ({present})",
        )
    if config.min_rating > float("-inf"):
        if log.ratings is None:
            raise DataError(
                "data.min_rating is set, but the interactions have no column rating. Leave the setting out."
            )
        highest = np.nanmax(log.ratings) if np.isfinite(log.ratings).any() else float("nan")
        log = log.select(log.ratings >= config.min_rating)
        _refuse_empty(log, f"data.min_rating={config.min_rating:g} is above the highest rating, {highest:g}")
    log = log.select(k_core(log.users, log.items, config.k_core))
    _refuse_empty(log, f"no user and item have data.k_core={config.k_core} interactions each")
    return log


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """The largest set of interactions in which every user and every item has at least `k`.

    Dropping a rare item may leave a user with too few, so this repeats until nothing changes.

    Args:
      users: int[n].
      items: int[n].
      k: 0 and 1 keep everything.

    Returns:
      bool[n], True where an interaction is kept.
    """
    kept = np.ones(len(users), bool)
    if k <= 1 or not len(users):
        return kept
    while True:
        enough_of_user = np.bincount(users[kept], minlength=users.max() + 1) >= k
        enough_of_item = np.bincount(items[kept], minlength=items.max() + 1) >= k
        still = kept & enough_of_user[users] & enough_of_item[items]
        if np.array_equal(still, kept):
            return kept
        kept = still


def _refuse_empty(log: Interactions, why: str) -> None:
    if not len(log):
        raise DataError(f"No interactions are left after filtering: {why}. Loosen that setting.")
