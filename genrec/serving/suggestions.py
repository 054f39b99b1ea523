"""Suggestions in errors: the values, columns and items of a catalogue that resemble what was asked for."""

import contextlib
import difflib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.data.filters import SEPARATOR
from genrec.errors import cut, shown

FROM = 100_000  # values of a column among which the nearest are looked for
MOST = 3  # suggestions


def values_of(cell: object) -> Iterator[str]:
    """Yields the values of a cell as an entry names them: those of a list, or separated by "|", one by one."""
    if isinstance(cell, list):
        for one in cell:
            yield from values_of(one)
    elif isinstance(cell, str):
        yield from filter(None, map(str.strip, cell.split(SEPARATOR)))
    elif cell is not None:
        yield str(cell).lower() if isinstance(cell, bool) else str(cell)


def distinct(column: str, catalogue: Catalogue, rows: np.ndarray | None = None) -> Iterator[str]:
    """Yields the distinct values of a column, of all items or those of some rows."""
    cells = catalogue.column(column)
    cells = cells if rows is None else cells.take(pa.array(rows))
    with contextlib.suppress(pa.ArrowNotImplementedError):  # of lists
        cells = cells.unique()
    yield from dict.fromkeys(itertools.chain.from_iterable(map(values_of, cells.to_pylist())))


def nearest(wanted: str, known: Iterable[str]) -> str:
    """Returns the end of a message: the values that resemble `wanted`, or some of them if none does."""
    by_case = {value.casefold(): value for value in itertools.islice(known, FROM)}
    wanted = wanted.casefold()
    containing = sorted(
        (value for value in by_case if wanted in value or (len(value) > 2 and value in wanted)), key=len
    )
    near = dict.fromkeys([*difflib.get_close_matches(wanted, by_case, MOST), *containing])
    names = [shown(by_case[value]) for value in list(near or sorted(by_case))[:MOST]]
    if len(names) == 1:
        return f" {'the nearest is' if near else 'there is only'} {names[0]}"
    return f" {'the nearest are' if near else 'there are, for instance,'} {', '.join(names)}" if names else ""


def nearest_item(wanted: str, catalogue: Catalogue) -> str:
    """Returns the end of a message: the items whose title contains `wanted`, or those with a similar id."""
    words = wanted.casefold()
    rows = (row for row, title in enumerate(catalogue.titles) if len(words) > 2 and words in title.casefold())
    found = [(catalogue.item_ids[row], catalogue.titles[row]) for row in itertools.islice(rows, MOST)]
    titled = ", ".join(f"{shown(item_id)} ({cut(title, 40)})" for item_id, title in found)
    if not titled:
        return nearest(wanted, catalogue.item_ids)
    return f" the nearest {'is' if len(found) == 1 else 'are'} {titled}"
