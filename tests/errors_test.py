"""Messages show the beginning of a value, however long it is."""

from genrec import errors


def test_short_values_are_shown_whole_and_long_ones_cut():
    assert errors.shown("B12") == "'B12'" and errors.cut("x" * errors.CELL) == "x" * errors.CELL
    shown = errors.shown("x" * 30_000_000)
    assert len(shown) < 300 and shown.startswith("'xxx") and "30,000,002" in shown
