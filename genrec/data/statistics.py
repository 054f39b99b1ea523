"""Summary statistics of a prepared dataset."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from genrec import tables
from genrec.data import timestamps
from genrec.errors import cut


@dataclasses.dataclass(frozen=True)
class Source:
    """Facts about the raw files of a dataset, for its summary."""

    interactions: int  # rows of the log, before all filters
    items: int | None  # rows of the items file; None where they were not recorded
    text_fields: tuple[str, ...]  # columns with texts that describe an item
    types: Mapping[str, Mapping[str, str]]  # of the attributes of "items" and of "users", by column
    repeated: tuple[int, str] = (0, "")  # rows that repeat an earlier one, and what `data.repeated` does with them
    recognized: Sequence[str] = ()  # what was recognized of the files' formats


def summarize(
    source: Source,
    *,
    lengths: np.ndarray,
    popularity: np.ndarray,
    pairs: int,
    ties: int,
    times: tuple[int, int] | None,
    sequences: Mapping[str, int],
    catalogue: pa.Table,
    users_with_attributes: int | None,
) -> dict:
    """Returns the statistics, as values that JSON can hold.

    Args:
      source: The raw files.
      lengths: int[users], items per user.
      popularity: int[items], interactions per item of the catalogue.
      pairs: Different pairs of user and item.
      ties: Interactions at the same time as another of their user.
      times: Microseconds since 1970 of the first and the last interaction; None where there are no times.
      sequences: Sequences per split.
      catalogue: One row per item.
      users_with_attributes: How many of the users have attributes; None without a users file.
    """
    interactions = int(lengths.sum())
    vectors = catalogue["vector"].drop_null() if "vector" in catalogue.column_names else []
    ranked = np.sort(popularity)[::-1]
    top = max(1, round(len(ranked) / 10))
    figures = {
        "users": len(lengths),
        "items": len(popularity),
        "interactions": interactions,
        "interactions_before_filtering": int(source.interactions),
        "density": pairs / (len(lengths) * len(popularity)),
        "items_per_user": _spread(lengths),
        "users_per_item": _spread(popularity),
        "items_without_interactions": int((popularity == 0).sum()),
        "share_of_top_tenth_of_items": float(ranked[:top].sum() / interactions),
        "records": {name: int(count) for name, count in sequences.items()},  # sequences per split
        "text_fields": list(source.text_fields),
        "vector_width": len(vectors[0]) if len(vectors) else 0,
        "source_items": source.items,
        "ties": ties / interactions,
        "repeated_rows": source.repeated[0],
        "repeated": source.repeated[1],
        "types": {table: dict(found) for table, found in source.types.items()},
        "recognized": list(source.recognized),
    }
    if users_with_attributes is not None:
        figures["users_with_attributes"] = users_with_attributes
    if times is not None:
        figures["first_interaction"], figures["last_interaction"] = (f"{timestamps.readable(t)} UTC" for t in times)
    return figures


def is_counted(last_interaction: str) -> bool:
    """Returns whether times end within the first 1,000 seconds of 1970, as those do that only count."""
    return timestamps.readable(0) <= last_interaction < timestamps.readable(timestamps.COUNTED * timestamps.SECOND)


def _spread(counts: np.ndarray) -> dict[str, float]:
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": round(float(counts.mean()), 2),
        "max": int(counts.max()),
    }


def table(figures: Mapping) -> str:
    """Returns the statistics of `summarize` as a table to print."""

    def spread(name: str) -> str:
        return "median {median:g}, mean {mean:g}, from {min:,} to {max:,}".format(**figures[name])

    vectors = figures["vector_width"]
    rows = [
        ("users", f"{figures['users']:,}"),
        ("items", f"{figures['items']:,} ({figures['items_without_interactions']:,} without interactions)"),
        ("interactions", f"{figures['interactions']:,} of {figures['interactions_before_filtering']:,} in the source"),
        ("density", f"{figures['density']:.4%}"),
        ("items per user", spread("items_per_user")),
        ("users per item", spread("users_per_item")),
        ("most popular tenth", f"{figures['share_of_top_tenth_of_items']:.1%} of the interactions"),
        ("sequences", ", ".join(f"{count:,} {name}" for name, count in figures["records"].items())),
        ("items described by", ", ".join(figures["text_fields"]) or ("vectors only" if vectors else "nothing")),
    ]
    if vectors:
        rows.append(("vectors", f"{vectors} wide"))
    if "first_interaction" in figures:
        known = ", a count that has no time of day" if is_counted(figures["last_interaction"]) else ""
        rows.append(("time", f"{figures['first_interaction']} to {figures['last_interaction']}{known}"))
    if figures["ties"]:
        rows.append(("ties in time", f"{figures['ties']:.1%} of the interactions, in the order of the source"))
    if figures["repeated_rows"]:
        done = "kept" if figures["repeated"] == "keep" else "dropped"
        rows.append(("repeated rows", f"{figures['repeated_rows']:,} {done}"))
    if "users_with_attributes" in figures:
        known = figures["users_with_attributes"]
        rows.append(("users' attributes", f"{known:,} users have some, {figures['users'] - known:,} have none"))
    for name, types in figures["types"].items():
        if types:
            found = ", ".join(f"{column} ({kind})" for column, kind in types.items())
            rows.append((f"columns of {name}", cut(found)))
    rows.extend(("recognized", mark) for mark in figures["recognized"])
    return tables.text(rows, align="l")
