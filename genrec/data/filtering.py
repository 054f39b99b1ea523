"""Filtering of interactions by event type, rating and k-core, and of the catalogue by the interactions that remain."""

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa

from genrec import config as configs
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions

ROUNDS = 20  # of k-core over all interactions, as many as ordinary logs need
TYPES_SHOWN = 20  # event types listed in a message


@dataclasses.dataclass(frozen=True)
class Passed:
    """Counts of the interactions of a log, or of a part of it, that pass the filters by event type and rating."""

    types: tuple[str, ...]  # the alphabetically first event types of the data
    of_types: int  # interactions of the kept event types
    highest: float  # highest rating among them; NaN where there is none
    rated: int  # how many of them also have the minimum rating


def by_config(log: Interactions, config: configs.Data) -> Interactions:
    """Returns the interactions that pass all filters of the config; raises `DataError` if one of them leaves none."""
    check_columns(log.event_types is not None, log.ratings is not None, config)
    log, passed = by_event(log, config)
    refuse_empty(passed, config)
    log = log.select(k_core(log.users, log.items, config.k_core))
    refuse_empty_core(len(log), config)
    return log


def check_columns(has_event_types: bool, has_ratings: bool, config: configs.Data) -> None:
    """Raises `DataError` if a filter needs a column that the log does not have."""
    if config.event_types and not has_event_types:
        raise DataError("data.event_types is set, but the interactions have no column event_type. Empty the setting.")
    if config.min_rating > float("-inf") and not has_ratings:
        raise DataError("data.min_rating is set, but the interactions have no column rating. Leave the setting out.")


def by_event(log: Interactions, config: configs.Data) -> tuple[Interactions, Passed]:
    """Returns the interactions of a log, or of a part of it, that `data.event_types` and `data.min_rating` keep."""
    types: tuple[str, ...] = ()
    if config.event_types:
        assert log.event_types is not None  # by `check_columns`
        found = pa.array(log.event_types, pa.string()).dictionary_encode()  # np.isin sorts the texts
        types = tuple(sorted(found.dictionary.to_pylist())[:TYPES_SHOWN])
        chosen = np.isin(found.dictionary.to_numpy(zero_copy_only=False), config.event_types)
        log = log.select(chosen[found.indices.to_numpy()])
    of_types, highest = len(log), float("nan")
    if config.min_rating > float("-inf"):
        assert log.ratings is not None
        highest = float(np.fmax.reduce(log.ratings, initial=float("nan")))
        log = log.select(log.ratings >= config.min_rating)
    return log, Passed(types, of_types, highest, len(log))


def merge(parts: Sequence[Passed]) -> Passed:
    """Returns the counts of a log from those of its parts."""
    return Passed(
        types=tuple(sorted({name for part in parts for name in part.types})[:TYPES_SHOWN]),
        of_types=sum(part.of_types for part in parts),
        highest=float(np.fmax.reduce([part.highest for part in parts])),
        rated=sum(part.rated for part in parts),
    )


def refuse_empty(passed: Passed, config: configs.Data) -> None:
    """Raises `DataError`, which names the filter, if event types or ratings leave no interactions."""
    if not passed.of_types:
        present = ", ".join(passed.types)
        _refuse(f"data.event_types={config.event_types} keeps none of the event types in the data ({present})")
    if not passed.rated:
        _refuse(f"data.min_rating={config.min_rating:g} is above the highest rating, {passed.highest:g}")


def refuse_empty_core(interactions: int, config: configs.Data) -> None:
    """Raises `DataError` if k-core leaves no interactions."""
    if not interactions:
        _refuse(f"no user and item have data.k_core={config.k_core} interactions each")


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Returns the k-core: the largest set of interactions in which every user and every item has at least `k`.

    Dropping a rare item may leave a user with too few interactions, so this repeats until nothing changes: in rounds
    over all interactions, and after `ROUNDS` of them node by node.

    Args:
      users: int[n], the user of each interaction.
      items: int[n], its item.
      k: The minimum; 0 and 1 keep everything.

    Returns:
      bool[n], True where an interaction is kept.
    """
    if k <= 1 or not len(users):
        return np.ones(len(users), bool)
    allowed = np.ones(items.max() + 1, bool)
    for _ in range(ROUNDS):
        kept = with_enough(users, allowed[items], k)
        still = allowed & (np.bincount(items[kept], minlength=len(allowed)) >= k)
        if np.array_equal(still, allowed):
            return kept
        allowed = still
    return _peeled(users, items, k, with_enough(users, allowed[items], k))


def _peeled(users: np.ndarray, items: np.ndarray, k: int, kept: np.ndarray) -> np.ndarray:
    """Returns the k-core of the interactions `kept` (bool[n]), in time linear in them.

    Each step removes one user or item with too few interactions, and only its neighbors are looked at: where one
    removal leads to the next, as in a chain, rounds over all interactions would be as many as there are users.
    """
    rows = np.flatnonzero(kept)
    first_item = int(users.max()) + 1  # nodes are the users, then the items
    ends = np.concatenate([users[rows], first_item + items[rows]])
    order = np.argsort(ends, kind="stable")
    degrees = np.bincount(ends)
    starts = np.concatenate([[0], np.cumsum(degrees)]).tolist()
    edges, others = (order % len(rows)).tolist(), np.roll(ends, len(rows))[order].tolist()
    left, removed = degrees.tolist(), bytearray(len(rows))
    few = np.flatnonzero((degrees > 0) & (degrees < k)).tolist()
    while few:
        node = few.pop()
        for place in range(starts[node], starts[node + 1]):
            if not removed[edges[place]]:
                removed[edges[place]] = True
                left[others[place]] -= 1
                if left[others[place]] == k - 1:
                    few.append(others[place])
    core = np.zeros(len(users), bool)
    core[rows[np.frombuffer(removed, np.uint8) == 0]] = True
    return core


def with_enough(users: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """Returns bool[n], the candidates (bool[n]) of the users (int[n]) who have at least `k` of them."""
    if not len(users):
        return candidates
    return candidates & (np.bincount(users[candidates], minlength=users.max() + 1) >= k)[users]


def catalogue(items: pa.Table, popularity: np.ndarray, keep_all: bool) -> tuple[pa.Table, np.ndarray]:
    """Returns the catalogue, in the order of the items file, and int64[items], the row of each item in it.

    k-core drops items that too few users chose; without k-core, items without interactions can be recommended, too.

    Args:
      items: One row per item of the source; raises DataError if it has a column source_row, which is added.
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
