"""Summary statistics of a prepared dataset."""

import datetime
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from genrec import tables


def summarize(
    *,
    lengths: np.ndarray,
    popularity: np.ndarray,
    times: tuple[int, int] | None,
    sequences: Mapping[str, int],
    before_filtering: int,
    text_fields: tuple[str, ...],
    catalogue: pa.Table,
    source_items: int | None,
) -> dict:
    """Returns the statistics, as values that JSON can hold.

    Args:
      lengths: int[users], items per user.
      popularity: int[items], interactions per item of the catalogue.
      times: Unix seconds of the first and the last interaction; None where there are no times.
      sequences: Sequences per split.
      before_filtering: Interactions in the source.
      text_fields: Columns with texts that describe an item.
      catalogue: One row per item.
      source_items: Rows of the source's items file; None where they were not recorded.
    """
    interactions = int(lengths.sum())
    vectors = catalogue["vector"].drop_null() if "vector" in catalogue.column_names else []
    ranked = np.sort(popularity)[::-1]
    top = max(1, round(len(ranked) / 10))
    figures = {
        "users": len(lengths),
        "items": len(popularity),
        "interactions": interactions,
        "interactions_before_filtering": int(before_filtering),
        "density": interactions / (len(lengths) * len(popularity)),
        "items_per_user": _spread(lengths),
        "users_per_item": _spread(popularity),
        "items_without_interactions": int((popularity == 0).sum()),
        "share_of_top_tenth_of_items": float(ranked[:top].sum() / interactions),
        "records": {name: int(count) for name, count in sequences.items()},  # sequences per split
        "text_fields": list(text_fields),
        "vector_width": len(vectors[0]) if len(vectors) else 0,
        "source_items": source_items,
    }
    if times is not None:
        ends = [datetime.datetime.fromtimestamp(int(t), datetime.UTC) for t in times]
        figures["first_interaction"], figures["last_interaction"] = (f"{t:%Y-%m-%d %H:%M:%S} UTC" for t in ends)
    return figures


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

    rows = [
        ("users", f"{figures['users']:,}"),
        ("items", f"{figures['items']:,} ({figures['items_without_interactions']:,} without interactions)"),
        ("interactions", f"{figures['interactions']:,} of {figures['interactions_before_filtering']:,} in the source"),
        ("density", f"{figures['density']:.4%}"),
        ("items per user", spread("items_per_user")),
        ("users per item", spread("users_per_item")),
        ("most popular tenth", f"{figures['share_of_top_tenth_of_items']:.1%} of the interactions"),
        ("sequences", ", ".join(f"{count:,} {name}" for name, count in figures["records"].items())),
        ("items described by", ", ".join(figures["text_fields"]) or "vectors only"),
    ]
    if figures["vector_width"]:
        rows.append(("vectors", f"{figures['vector_width']} wide"))
    if "first_interaction" in figures:
        rows.append(("time", f"{figures['first_interaction']} to {figures['last_interaction']}"))
    return tables.text(rows, align="l")
