"""Charts by matplotlib in one style, as PNG images or as SVG.

Charts are drawn in the light colors of PALETTE. An SVG has CSS variables in their place, so that a page can show it in
light or in dark colors. The same input gives the same bytes.
"""

import contextlib
import html
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported by the functions that draw, because it takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = {  # name: the color on light and on dark paper; the light ones all differ
    "ink": ("#1c2430", "#e4e9ef"),
    "soft": ("#5b6675", "#9aa6b4"),
    "line": ("#dfe4ea", "#303a46"),
    "paper": ("#ffffff", "#12171d"),
    "shade": ("#f5f7f9", "#1a2129"),
    "c0": ("#1f6feb", "#6ea8fe"),
    "c1": ("#d9822b", "#f0a35e"),
    "c2": ("#2a9d63", "#5cc995"),
    "c3": ("#8e5bd0", "#b99cf0"),
    "c4": ("#c9405c", "#ee7d93"),
    "c5": ("#5f7d95", "#93aec4"),
    "b0": ("#6f7c8a", "#a9b5c1"),
    "b1": ("#a3afbb", "#7b8794"),
    "b2": ("#cbd3da", "#56626f"),
}
INK, SOFT, LINE, PAPER = (PALETTE[name][0] for name in ("ink", "soft", "line", "paper"))
SERIES = [light for name, (light, _) in PALETTE.items() if name.startswith("c")]
MODEL_AND_BASELINES = [SERIES[0], *(light for name, (light, _) in PALETTE.items() if name.startswith("b"))]
WIDTH, HEIGHT = 4.6, 2.6  # inches of a panel; in SVG 72 units each, of which the font has FONT
FONT = 11
MOST_MARKERS = 40  # longer lines have no markers
LONGEST_LABEL, LONGEST_ROW = 24, 36  # characters of the label of a bar, and of three names in a legend


@contextlib.contextmanager
def style(salt: str = "") -> Iterator[None]:
    """Sets the style for what is drawn within; also a decorator. Ids in an SVG are hashes of content and `salt`."""
    import matplotlib

    settings: dict = {
        "axes.axisbelow": True,
        "axes.edgecolor": LINE,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": SOFT,
        "axes.prop_cycle": "cycler('color', ['" + "', '".join(SERIES) + "'])",
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlesize": FONT + 1,
        "axes.titleweight": "bold",
        "figure.constrained_layout.hspace": 0.06,
        "figure.constrained_layout.use": True,
        "figure.facecolor": PAPER,
        "font.size": FONT,
        "grid.color": LINE,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "lines.markersize": 4,
        "svg.fonttype": "none",  # text stays text, in the font of the page
        "svg.hashsalt": f"genrec {salt}",  # ids without it are random
        "text.color": INK,
        "text.parse_math": False,
        "xtick.labelcolor": SOFT,
        "xtick.major.size": 0,
        "ytick.labelcolor": SOFT,
        "ytick.major.size": 0,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts for text that matplotlib has not
        yield


def css() -> str:
    """Returns a style sheet that defines the colors as CSS variables."""
    light, dark = ("".join(f"--{name}:{colors[n]};" for name, colors in PALETTE.items()) for n in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


@style()
def panels(rows: int = 1, columns: int = 1) -> tuple["Figure", list["Axes"]]:
    """Returns a figure and the axes of its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


@style()
def lines(series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, mark: float | None = None) -> "Figure":
    """Returns a line chart: a line for each name, through points (x, y); `x` and `y` are the labels of the axes.

    A dashed line stands at the x `mark`, if there is one.
    """
    figure, (axes,) = panels()
    for name, points in series.items():
        columns = [[point[n] for point in points] for n in (0, 1)]
        axes.plot(columns[0], columns[1], marker="o" if len(points) <= MOST_MARKERS else "", label=name)
    if mark is not None:
        axes.axvline(mark, color=SOFT, linestyle="--", linewidth=1)
    whole = all(float(point[0]).is_integer() for points in series.values() for point in points)
    axes.locator_params(axis="x", nbins=6, integer=whole)
    axes.locator_params(axis="y", nbins=5)
    axes.set(xlabel=x, ylabel=y)
    _legend(figure, list(series))
    return figure


@style()
def bars(
    rows: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    colors: Sequence[str] = SERIES,
    intervals: Sequence[tuple[float, float]] = (),
) -> "Figure":
    """Returns a chart of horizontal bars from 0: for each (label, values) one bar for each of `names`.

    `colors` are those of the names, or of the rows if there is one name; `intervals` are those of the rows' first bars.
    """
    figure, (axes,) = panels()
    thickness = 0.8 / len(names)
    for n, name in enumerate(names):
        places = [row + (n - (len(names) - 1) / 2) * thickness for row in range(len(rows))]
        color = _repeated(colors, len(rows)) if len(names) == 1 else _repeated(colors, len(names))[n]
        axes.barh(places, [values[n] for _, values in rows], thickness * 0.9, label=name, color=color)
    for row, (low, high) in enumerate(intervals):
        axes.plot([low, high], [row + (1 - len(names)) / 2 * thickness] * 2, color=INK, linewidth=1.5)
    labels = [label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…" for label, _ in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlim(left=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    figure.set_figheight(0.6 + len(rows) * max(0.22, 0.1 * len(names) + 0.06))
    _legend(figure, names)
    return figure


def png(figure: "Figure") -> bytes:
    """Returns a PNG image on light paper."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def svg(figure: "Figure", title: str) -> str:
    """Returns an SVG file in light or dark colors as the viewer prefers; `title` is its label for screen readers."""
    own = f"<style>{css()}text{{font-family:system-ui,sans-serif}}</style>"
    element = inline_svg(figure, title).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return element.replace(">", f">{own}", 1) + "\n"


def inline_svg(figure: "Figure", title: str) -> str:
    """Returns an `<svg>` element for a page that has the style sheet `css`; its font is that of the page."""
    buffer = io.BytesIO()
    with style(salt=title):  # charts in one page have different ids
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    for superfluous in (  # nothing lies outside the axes, so nothing is clipped
        r"<metadata>.*?</metadata>|<defs>\s*<(style|clipPath).*?</defs>",
        r' (xmlns(:xlink)?|clip-path)="[^"]*"|(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"| font-family: [^;]*;',
        r"\s*\n\s*(?=<)",
    ):
        text = re.sub(superfluous, "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    for name, (light, _) in PALETTE.items():
        text = text.replace(light, f"var(--{name})")
    return text.strip()


def _repeated(colors: Sequence[str], number: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(colors), number))


def _legend(figure: "Figure", names: Sequence[str]) -> None:
    """Adds a legend above the axes, except for a single series."""
    if len(names) > 1:
        long = len(names) == 4 or sum(map(len, names)) > LONGEST_ROW
        figure.legend(loc="outside upper left", ncols=2 if long else 3)
