"""The state of a server: the bundle that answers, the store, and who may ask; see `genrec.serving.server.app`."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.types import Scope

from genrec.serving.served_engine import ItemChange, ServedEngine
from genrec.serving.server import batching, item_changes
from genrec.serving.server.limits import Rate, Tokens
from genrec.serving.server.listing import Listing
from genrec.serving.server.metrics import Metrics
from genrec.serving.server.problems import ProblemError, unavailable
from genrec.serving.server.reading import Reader
from genrec.serving.server.settings import ServerSettings
from genrec.serving.store.errors import StoreUnavailable
from genrec.serving.store.store import Store

T = TypeVar("T")

STUCK = 60.0  # seconds after which a search that does not end makes the server dead
CHANGES_DEADLINE = 600.0  # seconds for changes of the catalogue to be applied


@dataclasses.dataclass
class Answering:
    """A bundle that answers."""

    engine: ServedEngine
    batcher: batching.Batcher
    listing: Listing
    change: int  # number of the last change of the catalogue that it has
    folder: str
    refused: dict[int, item_changes.Refusal] = dataclasses.field(default_factory=dict)  # changes that it left out

    @functools.cached_property
    def fields(self) -> dict[str, str]:
        """Fingerprint and version, for answers."""
        return {"fingerprint": self.engine.card.fingerprint, "version": self.engine.card.version}

    @functools.cached_property
    def json(self) -> str:
        """The JSON of `fields`."""
        return json.dumps(self.fields)

    @functools.cached_property
    def label(self) -> str:
        """The label in metrics."""
        return self.engine.card.fingerprint[:12]


class Service:
    """State that the endpoints share. All methods are for the event loop."""

    def __init__(self, engine: ServedEngine, folder: str, store: Store, tokens: Tokens, settings: ServerSettings):
        self.settings, self.store, self._tokens = settings, store, tokens
        self.metrics, self._rate = Metrics(), Rate(settings.rate)
        self._search_threads = settings.search_threads or batching.usual_threads()
        self.draining = False
        self._first, self._folder = engine, folder
        self._answering: Answering | None = None
        self._threads = concurrent.futures.ThreadPoolExecutor(settings.threads, "store")
        self.reader = Reader(functools.partial(self.in_thread, store.known), store.profile_at_once)
        self._catching_up, self._loading = asyncio.Lock(), asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()  # the bundle could not be made ready
        self.on_ready: Callable[[], None] = lambda: None  # called when a bundle answers, and none before it any more

    @property
    def answering(self) -> Answering:
        """The bundle that answers; raises ProblemError until one does."""
        if self._answering is None:
            raise unavailable("the server is starting. Try again.", 2)
        return self._answering

    @property
    def is_ready(self) -> bool:
        """True while requests are answered here, and need not be sent elsewhere."""
        return self._answering is not None and not self.draining

    @property
    def is_alive(self) -> bool:
        """True unless a thread of the device has ended or is stuck."""
        return self._answering is None or (
            self._answering.batcher.is_running and self._answering.batcher.stuck_seconds < STUCK
        )

    def admit(self, scope: Scope, headers: Mapping[bytes, bytes], admin: bool) -> None:
        """Raises ProblemError if a client may not ask, or asks too often."""
        client = self._tokens.check(headers.get(b"authorization", b""), admin)
        address = scope.get("client") or ("",)
        self._rate.take(client or address[0])

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Returns the result of a function of the store, which may take long."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(function, *arguments))

    def start(self) -> None:
        """Begins to make the bundle ready and to look for changes of the catalogue."""
        self._tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        """Ends all work; what waits is computed before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._answering is not None:
            await self._answering.batcher.close()
        self._threads.shutdown()
        self.store.close()

    async def _start(self) -> None:
        try:
            await self._answer_with(self._first, self._folder)
            del self._first  # which would stay in memory beside later ones
        except Exception:
            logging.exception("the bundle could not be made ready")
            self.failed.set()

    async def reload(self, folder: str = "") -> Answering:
        """Answers with the bundle of a folder, by default the same one, once it is ready; until then with the present.

        Raises ProblemError if one is being loaded, and BundleError for a bundle that cannot be served.
        """
        if self._loading.locked():
            raise ProblemError(409, "a bundle is being loaded. Try again when it is ready.")
        async with self._loading:
            self._tokens.read()
            folder = folder or self._folder
            engine = await _apart(lambda: ServedEngine.load(folder))
            return await self._answer_with(engine, folder)

    async def _answer_with(self, engine: ServedEngine, folder: str) -> Answering:
        loaded = await _apart(lambda: _prepared(engine, self.store))
        batcher = batching.Batcher(engine, self.metrics, self.settings.max_queue, loaded.seconds, self._search_threads)
        new = Answering(engine, batcher, loaded.listing, loaded.change, folder, loaded.refused)
        await self.catch_up(new)  # with what came while it was made ready
        before, self._answering, self._folder = self._answering, new, folder
        self.metrics.info.clear()
        self.metrics.info.labels(new.label, new.fields["version"]).set(1)
        self.metrics.changes.set(new.change)
        logging.info("ready", extra={"fields": {"bundle": new.label, "items": len(engine.catalogue), "folder": folder}})
        if before is not None:
            await before.batcher.close()  # those who wait for it are answered by it
            if before.label != new.label:
                self.metrics.forget(before.label)
            before = None
        self.on_ready()
        return new

    async def catch_up(self, answering: Answering | None = None) -> None:
        """Applies the changes of the catalogue that the store has and the bundle has not, in their order."""
        async with self._catching_up:
            answering = answering or self.answering
            rows = await self.in_thread(self.store.changes, answering.change)
            for part in item_changes.parts(rows):
                deadline = time.monotonic() + CHANGES_DEADLINE
                change = functools.partial(item_changes.apply, answering.engine, part)
                applied = await answering.batcher.call_alone("change", change, deadline)
                answering.listing.changed(applied.item_ids)
                answering.refused |= applied.refused
                answering.change = part[-1][0]
                self.metrics.skipped.inc(len(applied.refused))
                self.metrics.changes.set(answering.change)

    async def change(self, change: ItemChange) -> None:
        """Stores a change of the catalogue, and applies it here; raises ProblemError if that fails."""
        number = await self.in_thread(self.store.add_change, change.as_json())
        await self.catch_up()
        if refusal := self.answering.refused.get(number):
            raise ProblemError(*refusal)

    async def _poll(self) -> None:
        available = True
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            try:
                if self._answering is not None:
                    await self.catch_up()
                available = True
            except StoreUnavailable as error:
                if available:  # said once
                    logging.warning("changes of the catalogue cannot be read: %s", error)
                available = False
            except Exception:
                logging.exception("changes of the catalogue could not be applied")


async def _apart(function: Callable[[], T]) -> T:
    """Returns the result of a function that takes seconds, of a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]  # of the function

    def run() -> None:
        value, failed = None, None
        try:
            value = function()
        except Exception as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, value, failed)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await result


@dataclasses.dataclass
class _Prepared:
    seconds: dict[int, float]
    listing: Listing
    change: int
    refused: dict[int, item_changes.Refusal]


def _prepared(engine: ServedEngine, store: Store) -> _Prepared:
    """Compiles an engine's programs, and applies the changes of the store; takes seconds."""
    engine.warm_up()
    rows = store.changes(0)
    refused = item_changes.apply(engine, rows).refused if rows else {}
    return _Prepared(batching.measure(engine), Listing(engine), rows[-1][0] if rows else 0, refused)
