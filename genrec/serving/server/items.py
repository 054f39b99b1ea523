"""Endpoints of items, and of the columns to filter by."""

import json

from genrec.errors import shown
from genrec.serving.served_engine import ItemChange
from genrec.serving.server.endpoint import Answer, Call
from genrec.serving.server.problems import ProblemError


async def search(call: Call) -> Answer:
    """Answers GET /v1/items."""
    listing = call.service.answering.listing
    rows = await call.service.in_thread(listing.search, call.query["prefix"], call.query["limit"])
    texts = ", ".join(f"{{{listing.rendered(row)}}}" for row in rows)
    return Answer(f'{{"items": [{texts}]}}'.encode())


async def item(call: Call) -> Answer:
    """Answers GET /v1/items/{item_id}."""
    return _answer(call)


async def put(call: Call) -> Answer:
    """Answers PUT /v1/items/{item_id}."""
    item_id, listing, fields = call.path["item_id"], call.service.answering.listing, call.body["fields"]
    if listing.row(item_id) is None:
        await _change(call, ItemChange("add", item_id, fields, call.body.get("vector")))
        return _answer(call, 201)
    # It keeps its semantic ID, which histories and the model know: texts or a vector give one to new items alone.
    await _change(call, ItemChange("change", item_id, dict.fromkeys(listing.columns_to_set) | fields))
    return _answer(call)


async def patch(call: Call) -> Answer:
    """Answers PATCH /v1/items/{item_id}."""
    _row(call)
    await _change(call, ItemChange("change", call.path["item_id"], call.body["fields"]))
    return _answer(call)


async def remove(call: Call) -> Answer:
    """Answers DELETE /v1/items/{item_id}."""
    _row(call)
    await call.service.change(ItemChange("remove", call.path["item_id"]))
    return Answer(status=204)


async def _change(call: Call, change: ItemChange) -> None:
    """Makes a change; raises CatalogueError before the store has it, whose changes later bundles take too."""
    await call.service.in_thread(call.service.answering.engine.check_change, change)
    await call.service.change(change)


def _row(call: Call) -> int:
    item_id = call.path["item_id"]
    if (row := call.service.answering.listing.row(item_id)) is None:
        raise ProblemError(404, f"there is no item {shown(item_id)}. Item ids are written as in the items file.")
    return row


def _answer(call: Call, status: int = 200) -> Answer:
    return Answer(f"{{{call.service.answering.listing.rendered(_row(call))}}}".encode(), status)


async def columns(call: Call) -> Answer:
    """Answers GET /v1/columns."""
    listing = call.service.answering.listing
    return Answer(await call.service.in_thread(lambda: json.dumps({"columns": listing.columns}).encode()))
