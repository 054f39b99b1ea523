"""Changes of the catalogue, from the store to an engine: in the order of the store, so that all servers agree."""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from genrec.errors import GenrecError
from genrec.serving.served_engine import ItemChange, ServedEngine

AT_ONCE = 256  # changes between which no search is computed

Row = tuple[int, str]  # number and JSON of a change


class Refusal(NamedTuple):
    """Why a change is left out."""

    status: int  # of an answer: 422 where the change is wrong, 500 where the server failed
    reason: str


class Applied(NamedTuple):
    """Result of changes."""

    item_ids: list[str]  # of items that were added or changed
    refused: dict[int, Refusal]  # changes that could not be applied, by their numbers


def parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yields changes in parts that are applied at once."""
    return (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))


def apply(engine: ServedEngine, rows: Sequence[Row]) -> Applied:
    """Applies changes in order, at once.

    One that cannot be read, or that the engine refuses or fails at, such as one for other columns, is left out: it must
    not keep the server from the later ones.
    """
    changes: list[tuple[int, ItemChange]] = []
    refused: dict[int, Refusal] = {}
    for number, text in rows:
        try:
            changes.append((number, ItemChange.from_json(text)))
        except GenrecError as error:
            refused[number] = _left_out(number, error)
    refused |= _apply(engine, changes)
    catalogue = engine.catalogue
    for made in (catalogue.index, catalogue.titles):  # here, not in the event loop that reads them
        assert len(made) == len(catalogue)
    present = [change.item_id for number, change in changes if number not in refused and change.kind != "remove"]
    return Applied(list(dict.fromkeys(present)), refused)


def _apply(engine: ServedEngine, changes: Sequence[tuple[int, ItemChange]]) -> dict[int, Refusal]:
    """Applies changes, and returns why some could not be applied, by their numbers."""
    try:
        engine.change_items([change for _, change in changes])
    except Exception as error:  # of one of them; none was applied
        if len(changes) > 1:
            middle = len(changes) // 2
            return _apply(engine, changes[:middle]) | _apply(engine, changes[middle:])
        number = changes[0][0]
        return {number: _left_out(number, error)}
    return {}


def _left_out(number: int, error: Exception) -> Refusal:
    """Logs that a change is left out, and returns why."""
    if isinstance(error, GenrecError):
        logging.warning("change %d of the catalogue is left out: %s", number, error)
        return Refusal(422, str(error))
    logging.exception("change %d of the catalogue is left out", number)
    return Refusal(500, f"the server failed at change {number} of the catalogue, and leaves it out; its log has more")
