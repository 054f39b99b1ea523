"""An engine without a model, and servers of it in a thread: what the server itself does shows within milliseconds."""

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import numpy as np
import pyarrow as pa

from genrec.data.dataset import Catalogue
from genrec.data.filters import EVERYTHING
from genrec.decoding.sorted_table import CatalogueError
from genrec.serving.explanations import Explanation, Reason
from genrec.serving.queries import Recommendations, Shortage
from genrec.serving.server import app, run
from genrec.serving.server.limits import Tokens
from genrec.serving.server.service import Service
from genrec.serving.server.settings import ServerSettings
from genrec.serving.store.store import Store

KINDS = ("music", "podcast", "audiobook")


def catalogue_of(items: int) -> Catalogue:
    rows = range(items)
    columns = {
        "item_id": [f"i{row}" for row in rows],
        "source_row": list(rows),
        "title": [f"Título {row} of the Night" for row in rows],
        "media_type": [KINDS[row % 3] for row in rows],
        "year": [1990 + row if row % 5 else None for row in rows],
        "tags": [["calm", "live"][: row % 3] for row in rows],
    }
    return Catalogue(pa.table(columns), ("title",))


class StubEngine:
    """Lists the items that pass in the order of the catalogue, after `seconds`; a history of i13 cannot be read."""

    def __init__(self, items: int = 40, seconds: float = 0.0, name: str = "stub"):
        self.catalogue, self.seconds = catalogue_of(items), seconds
        self.card = SimpleNamespace(
            fingerprint=name * 4, version="0.1.0", beams=20, metrics={"metrics": {"recall@10": 0.5}}
        )
        self.batch_sizes, self.compilations, self.removed = (1, 4, 16), 7, frozenset()
        self.cache = SimpleNamespace(hits=3, misses=1, bytes=1000)
        self.takes_prompts = self.has_ranker = True
        self.sources = ("generator", "item-kNN")
        self.batches: list[int] = []
        self.histories: list[list[int]] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def warm_up(self) -> None:
        pass

    def sizes_of(self, program):
        return self.batch_sizes

    def prepare(self, query):
        return SimpleNamespace(query=query, program=query.options.temperature > 0)

    def recommend(self, queries):
        return self.search([self.prepare(query) for query in queries])

    def search(self, prepared):
        self.entered.set()
        self.gate.wait()
        time.sleep(self.seconds)
        self.batches.append(len(prepared))
        assert len({one.program for one in prepared}) == 1
        return [self._list(one.query) for one in prepared]

    def _list(self, query):
        self.histories.append(query.request.history.tolist())
        if self.histories[-1] == [13]:
            raise CatalogueError("i13 cannot be read")
        if self.histories[-1] == [14]:
            raise RuntimeError("a mistake")
        passing = query.filter.mask(len(self.catalogue), self.catalogue)
        passing[list(self.removed)] = False
        if query.options.exclude_history:
            passing[query.request.history] = False
        items = np.flatnonzero(passing)[:: -1 if query.source == "item-kNN" else 1][: query.options.top].astype(
            np.int32
        )
        return Recommendations(items, -np.arange(len(items), dtype=np.float32), min(2, len(items)))

    def understand(self, request):
        return SimpleNamespace(as_json=lambda: {"text": request.prompt, "english": True, "parts": []})

    def shortage(self, query, found):
        full = self._list(dataclasses.replace(query, filter=EVERYTHING))
        return Shortage(len(found.items), {1: 40}, (1,), full)

    def score(self, request, items):
        return -np.asarray(items, np.float32)

    def rank(self, request, items):
        return np.asarray(items, np.float32)

    def explain(self, request, items):
        return [Explanation([Reason("event 1 ago", 0.5, "you chose it")], 0.7) for _ in items]

    def check_change(self, change):
        unknown = change.fields.keys() - set(self.catalogue.table.column_names)
        if unknown or change.fields.get("year") == -1:
            raise CatalogueError(f"cannot {change.kind} {change.item_id}: {unknown}")

    def change_items(self, changes):
        rows, removed = self.catalogue.table.to_pylist(), set(self.removed)
        index = {row["item_id"]: place for place, row in enumerate(rows)}
        for change in changes:
            place = index.get(change.item_id)
            there = place is not None and place not in removed
            if there == (change.kind == "add") or change.fields.get("year") == -1:
                raise CatalogueError(f"cannot {change.kind} {change.item_id}")
            if change.kind == "remove":
                removed.add(place)
            elif place is None:
                index[change.item_id] = len(rows)
                rows.append({"item_id": change.item_id, "source_row": 0, **change.fields})
            else:
                removed.discard(place)
                rows[place] |= change.fields
        self.catalogue = Catalogue(pa.Table.from_pylist(rows, schema=self.catalogue.table.schema), ("title",))
        self.removed = frozenset(removed)


@dataclasses.dataclass
class Served:
    """A server in a thread."""

    engine: StubEngine
    service: Service
    client: httpx.Client

    def recommend(self, **request):
        return self.client.post("/v1/recommend", json={"requests": [request]})

    def items(self, **request) -> list[str]:
        (result,) = self.recommend(**request).raise_for_status().json()["results"]
        return [one["item_id"] for one in result["recommended"]]

    def metric(self, name: str) -> float:
        text = self.client.get("/metrics").text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@contextlib.contextmanager
def serving(
    store_url: str, engine: StubEngine | None = None, tokens: str | None = None, **settings
) -> Iterator[Served]:
    """Serves an engine at a free port, with a client that waits for it to be ready."""
    engine = engine or StubEngine()
    settings = ServerSettings(**{"port": 0, "poll_seconds": 0.05, "search_threads": 1, **settings})
    service = Service(engine, "bundle", Store.open(store_url), Tokens(tokens), settings)
    server, started = run.Server(app.make(service), service), threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.001)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.005)
        engine.batches.clear()
        engine.histories.clear()
        try:
            yield Served(engine, service, client)
        finally:
            engine.gate.set()
            server.should_exit = True
            thread.join()
