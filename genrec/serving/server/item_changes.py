"""Changes of the catalogue, from the store to an engine: in the order of the store, so that all servers agree."""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from genrec.errors import GenrecError
from genrec.serving.served_engine import ItemChange, ServedEngine

AT_ONCE = 256  # changes between which no search is computed

Row = tuple[int, str]  # number and JSON of a change


class Applied(NamedTuple):
    """Result of changes."""

    item_ids: list[str]  # of items that were added or changed
    refused: dict[int, str]  # why changes could not be applied, by their numbers


def parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yields changes in parts that are applied at once."""
    return (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))


def apply(engine: ServedEngine, rows: Sequence[Row]) -> Applied:
    """Applies changes in order, at once; one that the engine refuses, such as one for other columns, is left out."""
    changes = [(number, ItemChange.from_json(text)) for number, text in rows]
    refused = _apply(engine, changes)
    catalogue = engine.catalogue
    for made in (catalogue.index, catalogue.titles):  # here, not in the event loop that reads them
        assert len(made) == len(catalogue)
    present = [change.item_id for number, change in changes if number not in refused and change.kind != "remove"]
    return Applied(list(dict.fromkeys(present)), refused)


def _apply(engine: ServedEngine, changes: Sequence[tuple[int, ItemChange]]) -> dict[int, str]:
    """Applies changes, and returns why some could not be applied, by their numbers."""
    try:
        engine.change_items([change for _, change in changes])
    except GenrecError as error:  # of one of them; none was applied
        if len(changes) > 1:
            middle = len(changes) // 2
            return _apply(engine, changes[:middle]) | _apply(engine, changes[middle:])
        number = changes[0][0]
        logging.warning("change %d of the catalogue is left out: %s", number, error)
        return {number: str(error)}
    return {}
