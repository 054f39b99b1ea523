"""Small charts as inline SVG: no scripts, no fonts, nothing fetched. Colors are classes, for a style sheet to set.

All functions return an `<svg>` element with a title, a label for screen readers, and a tooltip a mark.
"""

import html
import math
from collections.abc import Mapping, Sequence

from genrec.evaluation.report_style import STYLE

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40  # margins around the plot
IMAGE_SIZE = f'width="{WIDTH}" height="{HEIGHT}"'
SERIES = 6  # classes s0 to s5
BAR = 26  # height of a row of bars


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that span the range: 1, 2, 2.5 or 5 times a power of ten apart."""
    if not high > low:
        high = low + (abs(low) or 1)
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def lines(series: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str) -> str:
    """A line for each name, through points (x, y); `x` and `y` name the axes."""
    points = [point for of_name in series.values() for point in of_name]
    x_ticks = ticks(min(p[0] for p in points), max(p[0] for p in points))
    y_ticks = ticks(min(p[1] for p in points), max(p[1] for p in points))
    plot = _Plot(x_ticks, y_ticks)
    marks = []
    for number, (name, of_name) in enumerate(series.items()):
        path = " ".join(f"{plot.x(a):.1f},{plot.y(b):.1f}" for a, b in of_name)
        marks.append(f'<polyline class="line s{number % SERIES}" points="{path}"/>')
        if len(of_name) <= 40:
            marks += [
                f'<circle class="dot s{number % SERIES}" cx="{plot.x(a):.1f}" cy="{plot.y(b):.1f}" r="3">'
                f"<title>{html.escape(name)}: {_number(b)} at {_number(a)}</title></circle>"
                for a, b in of_name
            ]
    body = plot.frame(x, y) + "".join(marks)
    return _svg(WIDTH, HEIGHT, title, body) + legend(list(series))


def bars(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], title: str) -> str:
    """Horizontal bars: for each (label, values) one bar for each of `names`, all from 0."""
    top = max([value for _, values in rows for value in values] + [0.0])
    x_ticks = ticks(0.0, top or 1.0)
    label_width, thick = 150, 9
    row_height = max(BAR, thick * len(names) + 10)
    height = TOP + row_height * len(rows) + BOTTOM
    span = WIDTH - label_width - RIGHT - 44

    def x_of(value: float) -> float:
        return label_width + span * value / x_ticks[-1]

    parts = []
    for tick in x_ticks:
        at = x_of(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(_text(at, height - BOTTOM + 16, _number(tick), "tick", "middle"))
    for row, (label, values) in enumerate(rows):
        middle = TOP + row_height * row + row_height / 2
        short = label if len(label) <= 24 else label[:23] + "…"
        parts.append(_text(label_width - 8, middle + 4, short, "label", "end"))
        first = middle - thick * len(names) / 2
        for number, value in enumerate(values):
            parts.append(
                f'<rect class="bar s{number % SERIES}" x="{label_width}" y="{first + thick * number:.1f}" '
                f'width="{max(0.5, x_of(value) - label_width):.1f}" height="{thick - 1}"><title>'
                f"{html.escape(label)}, {html.escape(names[number])}: {_number(value)}</title></rect>"
            )
    return _svg(WIDTH, height, title, "".join(parts)) + legend(names)


def steps(curves: Mapping[str, Sequence[float]], title: str, x: str, y: str) -> str:
    """Sorted values of each name over their rank, as a share of all: how evenly something is spread."""
    series = {}
    for name, values in curves.items():
        in_order = sorted(values, reverse=True)
        every, last = max(1, len(in_order) // 200), max(1, len(in_order) - 1)  # a picture shows no more points
        series[name] = [(100 * place / last, in_order[place]) for place in range(0, len(in_order), every)]
    return lines(series, title, x, y)


def image(figure: str, names: Sequence[str]) -> str:
    """An SVG file of its own, of what a function here returned for the series `names`: with colors and legend."""
    svg = figure[: figure.index("</svg>")].replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {IMAGE_SIZE} ', 1)
    start = svg.index(">") + 1
    entries = [
        f'<circle class="dot s{n % SERIES}" cx="{WIDTH - 110}" cy="{TOP + 10 + 16 * n}" r="4"/>'
        + _text(WIDTH - 100, TOP + 14 + 16 * n, name, "label", "start")
        for n, name in enumerate(names)
    ]
    paper = '<rect width="100%" height="100%" style="fill:var(--paper)"/>'
    return f"{svg[:start]}<style>{STYLE}</style>{paper}{svg[start:]}{''.join(entries)}</svg>\n"


def legend(names: Sequence[str]) -> str:
    """Names beside the colors of their series; nothing where there is only one."""
    if len(names) < 2:
        return ""
    entries = (f'<span class="key s{n % SERIES}">{html.escape(name)}</span>' for n, name in enumerate(names))
    return f'<p class="legend">{"".join(entries)}</p>'


class _Plot:
    """Axes of a plot, and where values lie."""

    def __init__(self, x_ticks: Sequence[float], y_ticks: Sequence[float]):
        self._x_ticks, self._y_ticks = x_ticks, y_ticks

    def x(self, value: float) -> float:
        low, high = self._x_ticks[0], self._x_ticks[-1]
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self._y_ticks[0], self._y_ticks[-1]
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def frame(self, x: str, y: str) -> str:
        """Grid, ticks and the names of the axes."""
        parts = []
        for tick in self._y_ticks:
            at = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(_text(LEFT - 6, at + 4, _number(tick), "tick", "end"))
        for tick in self._x_ticks:
            parts.append(_text(self.x(tick), HEIGHT - BOTTOM + 16, _number(tick), "tick", "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x, "axis", "middle"))
        upright = f"translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)"
        parts.append(f'<text class="axis" transform="{upright}" text-anchor="middle">{html.escape(y)}</text>')
        return "".join(parts)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(width: float, height: float, title: str, body: str) -> str:
    named = html.escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{named}">{body}</svg>'


def _number(value: float) -> str:
    if value and (abs(value) >= 10_000 or abs(value) < 0.0001):
        return f"{value:.3g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")
