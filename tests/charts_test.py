"""Charts as SVG and PNG: their marks and texts, their colors, and the same bytes every time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from genrec import charts

SERIES = {"recall@10": [(1, 0.1), (2, 0.3), (5, 0.2)], "ndcg <10>": [(1, 0.05), (5, 0.1)]}


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("text")]


def test_lines_have_their_axes_names_and_points():
    svg = charts.inline_svg(charts.lines(SERIES, "step", "metric"), "curves & more")
    assert {"step", "metric", "recall@10", "ndcg <10>"} <= set(texts(svg))
    marker = r'<use href="#\w+" [^>]*stroke: var\(--c0\)'
    assert len(re.findall(marker, svg)) == 3 + 1, "one per point, and that of the legend"
    assert 'role="img" aria-label="curves &amp; more"' in svg


def test_long_lines_have_no_markers_and_a_single_series_no_legend():
    points = [(n, n) for n in range(charts.MOST_MARKERS + 1)]
    svg = charts.inline_svg(charts.lines({"loss": points}, "step", "y"), "long")
    assert "<use" not in svg and "loss" not in texts(svg)


def test_any_text_can_be_a_name(recwarn):
    """Among others what matplotlib would take for mathematics, and what its own font lacks."""
    names = ["$x^2$ & $", "日本 🎧", "<b>"]
    svg = charts.inline_svg(charts.bars([("a", [1, 2, 3])], names), "names")
    assert set(names) <= set(texts(svg)) and not recwarn.list


def test_bars_start_at_0_and_long_labels_are_cut():
    figure = charts.bars([("a", [0.5, 0.25]), ("b" * 40, [0.0, 1.0])], ["one", "two"])
    boxes = figure.axes[0].patches
    assert [box.get_width() for box in boxes] == [0.5, 0.0, 0.25, 1.0] and {box.get_x() for box in boxes} == {0}
    assert {"a", "b" * 23 + "…", "one", "two"} <= set(texts(charts.inline_svg(figure, "bars")))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.0171), (3, 3), (0, 0), (-5, 12000), (1e-9, 3e-9)])
def test_ticks_are_few_and_any_range_can_be_drawn(low, high):
    (axes,) = charts.lines({"y": [(0, low), (1, high)]}, "x", "y").axes
    first, last = axes.get_ylim()
    assert first <= low and high <= last
    assert 2 <= sum(first <= tick <= last for tick in axes.get_yticks()) <= 8


def test_colors_are_those_of_the_page_and_a_file_has_its_own():
    figure = charts.lines(SERIES, "x", "y")
    inline, alone = charts.inline_svg(figure, "t"), charts.svg(figure, "t")
    assert not re.search("#[0-9a-f]{6}", inline) and "http" not in inline and "url(" not in inline
    used = set(re.findall(r"var\(--(\w+)\)", inline))
    assert {"ink", "soft", "line", "paper", "c0", "c1"} <= used <= set(charts.PALETTE)
    assert ElementTree.fromstring(alone).tag == "{http://www.w3.org/2000/svg}svg" and charts.css() in alone
    for light, dark in charts.PALETTE.values():
        assert light in alone and dark in alone


def test_the_same_input_gives_the_same_bytes_and_ids_differ_between_charts():
    first, second = (charts.lines(SERIES, "x", "y") for _ in range(2))
    assert charts.svg(first, "t") == charts.svg(second, "t") and charts.png(first) == charts.png(second)
    assert charts.png(first).startswith(b"\x89PNG")
    ids = [set(re.findall(r' id="([^"]*)"', charts.inline_svg(first, title))) for title in ("t", "u")]
    assert ids[0] and not ids[0] & ids[1]


def test_a_chart_of_one_name_colors_its_rows_and_shows_intervals():
    figure = charts.bars([("a", [0.5]), ("b", [0.25])], ["m"], charts.MODEL_AND_BASELINES, [(0.4, 0.7), (0.2, 0.3)])
    model, baseline = (box.get_facecolor() for box in figure.axes[0].patches)
    assert model != baseline
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[0.4, 0.7], [0.2, 0.3]]


def test_models_have_the_same_colors_in_all_rows():
    figure = charts.bars([("a", [1, 2]), ("b", [3, 4])], ["model", "other"], charts.MODEL_AND_BASELINES)
    colors = [box.get_facecolor() for box in figure.axes[0].patches]
    assert colors[0] == colors[1] != colors[2] == colors[3]


def test_a_line_chart_marks_an_x():
    (axes,) = charts.lines({"y": [(0, 1), (5, 2)]}, "x", "y", mark=5).axes
    assert list(axes.lines[-1].get_xdata()) == [5, 5]
