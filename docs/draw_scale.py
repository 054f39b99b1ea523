"""Draws how the cost of the stages grows, from the measured figures in docs/scale.csv.

    python docs/draw_scale.py

Writes docs/images/scale_rows.svg and scale_items.svg. docs/benchmarks.md has the commands of the figures.
"""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from genrec import charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parent
UNITS = {"seconds": "seconds", "gib": "GiB at the peak"}
PANEL = 3.5, 2.4  # inches, as wide as a phone is


@charts.style()
def draw(rows: list[dict[str, str]], size: str) -> str:
    """Returns an SVG of seconds and peak memory over `size`, "rows" or "items", with logarithmic axes."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["of"] == size]
    figure = Figure(figsize=(PANEL[0], PANEL[1] * len(UNITS)))
    for panel, (column, label) in zip(figure.subplots(len(UNITS), 1), UNITS.items(), strict=True):
        for stage in dict.fromkeys(row["stage"] for row in rows):
            points = [(float(row["size"]), float(row[column])) for row in rows if row["stage"] == stage]
            panel.plot(*zip(*points, strict=True), marker="o", label=stage if column == "seconds" else None)
        _scale(panel, sorted({float(row["size"]) for row in rows}))
        panel.set(xlabel=size, ylabel=label)
    figure.legend(loc="outside upper left", ncols=2)
    return charts.svg(figure, f"Seconds and GiB at the peak over {size}")


def _scale(panel: "Axes", sizes: list[float]) -> None:
    """Makes the axes logarithmic, with a line for each size and for each power of ten."""
    panel.set(xscale="log", yscale="log")
    low, high = panel.get_ylim()
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    panel.set_ylim(powers[0], powers[-1])
    panel.set_xticks(sizes, [_short(size) for size in sizes])
    panel.set_yticks(powers, [_short(power) for power in powers])
    panel.minorticks_off()


def _short(number: float) -> str:
    """Returns 20M for 20,000,000, 100k for 100,000 and 1000 for 1,000."""
    if number >= 1e6:
        return f"{number / 1e6:g}M"
    return f"{number / 1e3:g}k" if number >= 1e4 else f"{number:g}"


def main() -> None:
    with (DOCS / "scale.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for size in ("rows", "items"):
        (DOCS / "images" / f"scale_{size}.svg").write_text(draw(rows, size), encoding="utf-8")


if __name__ == "__main__":
    main()
