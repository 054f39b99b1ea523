"""Chooses which interactions count, by event type, by rating and by k-core, and which items then stay."""

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa

from genrec import config as configs
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions

TYPES_SHOWN = 20  # event types in a message


@dataclasses.dataclass(frozen=True)
class Passed:
    """What the filters by event let pass, of a log or of a part of it."""

    types: tuple[str, ...]  # event types in the data, the first of them by the alphabet
    of_types: int  # interactions of the types that are kept
    highest: float  # rating among them; NaN where there is none
    rated: int  # of them those with the rating that is asked for


def by_config(log: Interactions, config: configs.Data) -> Interactions:
    """Applies the filters of the config in turn; raises `DataError` when one of them leaves nothing."""
    check_columns(log.event_types is not None, log.ratings is not None, config)
    log, passed = by_event(log, config)
    refuse_empty(passed, config)
    log = log.select(k_core(log.users, log.items, config.k_core))
    refuse_empty_core(len(log), config)
    return log


def check_columns(has_event_types: bool, has_ratings: bool, config: configs.Data) -> None:
    """Raises `DataError` for a filter whose column the log does not have."""
    if config.event_types and not has_event_types:
        raise DataError("data.event_types is set, but the interactions have no column event_type. Empty the setting.")
    if config.min_rating > float("-inf") and not has_ratings:
        raise DataError("data.min_rating is set, but the interactions have no column rating. Leave the setting out.")


def by_event(log: Interactions, config: configs.Data) -> tuple[Interactions, Passed]:
    """What `data.event_types` and `data.min_rating` keep of a log or of a part of it."""
    types: tuple[str, ...] = ()
    if config.event_types:
        types = tuple(sorted(set(log.event_types))[:TYPES_SHOWN])
        log = log.select(np.isin(log.event_types, config.event_types))
    of_types, highest = len(log), float("nan")
    if config.min_rating > float("-inf"):
        highest = float(np.fmax.reduce(log.ratings, initial=float("nan")))
        log = log.select(log.ratings >= config.min_rating)
    return log, Passed(types, of_types, highest, len(log))


def merge(parts: Sequence[Passed]) -> Passed:
    """What passed of a log, from what passed of its parts."""
    return Passed(
        types=tuple(sorted({name for part in parts for name in part.types})[:TYPES_SHOWN]),
        of_types=sum(part.of_types for part in parts),
        highest=float(np.fmax.reduce([part.highest for part in parts])),
        rated=sum(part.rated for part in parts),
    )


def refuse_empty(passed: Passed, config: configs.Data) -> None:
    """Raises `DataError` when the filters by event leave nothing, and names the one."""
    if not passed.of_types:
        present = ", ".join(passed.types)
        _refuse(f"data.event_types={config.event_types} keeps none of the event types in the data ({present})")
    if not passed.rated:
        _refuse(f"data.min_rating={config.min_rating:g} is above the highest rating, {passed.highest:g}")


def refuse_empty_core(interactions: int, config: configs.Data) -> None:
    """Raises `DataError` when k-core leaves no interactions."""
    if not interactions:
        _refuse(f"no user and item have data.k_core={config.k_core} interactions each")


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
    if k <= 1 or not len(users):
        return np.ones(len(users), bool)
    allowed = np.ones(items.max() + 1, bool)
    while True:
        kept = with_enough(users, allowed[items], k)
        still = allowed & (np.bincount(items[kept], minlength=len(allowed)) >= k)
        if np.array_equal(still, allowed):
            return kept
        allowed = still


def with_enough(users: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """bool[n], the candidates (bool[n]) of those users (int[n]) who have at least `k` of them."""
    if not len(users):
        return candidates
    return candidates & (np.bincount(users[candidates], minlength=users.max() + 1) >= k)[users]


def catalogue(items: pa.Table, popularity: np.ndarray, keep_all: bool) -> tuple[pa.Table, np.ndarray]:
    """The items that stay, in the order of their file, and int64[items], the row that an item has among them.

    k-core drops items that too few users chose; without it also items that nobody chose yet can be recommended.

    Args:
      items: One row per item.
      popularity: int[items], interactions that are kept.
      keep_all: Whether items without interactions stay.
    """
    if "source_row" in items.column_names:
        raise DataError("The items have a column source_row, a name that genrec uses. Rename the column.")
    kept = np.ones(items.num_rows, bool) if keep_all else popularity > 0
    rows = np.flatnonzero(kept)
    table = items.take(pa.array(rows)).add_column(1, "source_row", pa.array(rows.astype(np.int32)))
    return table, np.cumsum(kept) - 1


def _refuse(why: str) -> NoReturn:
    raise DataError(f"No interactions are left after filtering: {why}. Loosen that setting.")
