"""Tables as aligned plain text or as Markdown."""

import numbers
from collections.abc import Iterable, Sequence

import tabulate

from genrec import printing

PLAIN, MARKDOWN = "plain", "pipe"


def text(
    rows: Iterable[Sequence[object]],
    header: Sequence[str] = (),
    floats: str | Sequence[str] = ".4f",
    align: str = "lr",
    style: str = PLAIN,
) -> str:
    """Returns a table of one line per row, without a newline at the end.

    For example `text([["recall", 0.5, 1200], ["ndcg", None, 34]])` is "recall  0.5000  1,200\\nndcg               34".

    Args:
      rows: cells of each row; strings are shown in one line without control characters, integers with thousands
        separators, None as nothing. An empty row is a blank line.
      header: names of the columns.
      floats: format of all float cells, or of those of each column.
      align: "l" or "r" for each column; the last letter stands for all columns that follow.
      style: PLAIN or MARKDOWN.
    """
    formats = [floats] if isinstance(floats, str) else floats
    cells = [[_cell(value, formats[min(n, len(formats) - 1)]) for n, value in enumerate(row)] for row in rows]
    columns = max(map(len, [header, *cells]))
    sides = [{"l": "left", "r": "right"}[side] for side in align[:columns].ljust(columns, align[-1])]
    table: str = tabulate.tabulate(cells, header, tablefmt=style, colalign=sides, disable_numparse=True)
    return "\n".join(line.rstrip() for line in table.splitlines())


def _cell(value: object, floats: str) -> str:
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if value is None:
        return ""
    return format(value, floats) if isinstance(value, numbers.Real) else printing.one_line(str(value))
