"""Runs the server: uvicorn, signals, and what clients may not do to connections."""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from etils import epath
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genrec import signals
from genrec.config import ConfigError
from genrec.errors import GenrecError
from genrec.serving.served_engine import ServedEngine
from genrec.serving.server import app, batching, logs
from genrec.serving.server.limits import Tokens
from genrec.serving.server.service import Service
from genrec.serving.server.settings import ServerSettings
from genrec.serving.store.store import Store

SWITCH = 0.0005  # seconds after which Python changes threads: the device's keeps the event loop waiting no longer
KEEP_ALIVE = 75  # seconds that a connection may be idle between requests, more than proxies keep theirs
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(bundle: str, settings: ServerSettings, token_file: str | None) -> None:
    """Serves a bundle until SIGTERM or Ctrl-C, and then answers what has been asked.

    Raises GenrecError where the bundle, the store or the tokens cannot be used, or the address is not free.
    """
    with logs.json_lines():
        batching.compute_in_own_thread()
        tokens = Tokens(token_file)
        engine = ServedEngine.load(bundle)
        store = Store.open(settings.store or _default_store(bundle))
        if token_file is None and settings.host not in LOOPBACK:
            logging.warning("everybody who reaches %s may change the catalogue: give --token_file", settings.host)
        _allow_connections()
        sys.setswitchinterval(SWITCH)
        service = Service(engine, bundle, store, tokens, settings)
        service.on_ready = _freeze
        del engine  # which would stay in memory beside later ones
        server = Server(app.make(service), service)
        # Signals before the loop handles them, and after: as in other scripts.
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.run_until_stopped())
    if service.failed.is_set():
        raise ServeError(f"{bundle}: the bundle could not be made ready; the log says why.")


def _freeze() -> None:
    """Leaves what is in memory out of later garbage collections: a full one would stop the server for 0.1 s."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class ServeError(GenrecError):
    """Error for a server that cannot start. The message says what to do."""


def _default_store(bundle: str) -> str:
    if "://" in bundle:
        raise ConfigError(f"--bundle={bundle} is in a bucket, where no database can be: give --store too")
    return f"sqlite:///{epath.Path(bundle).expanduser().resolve()}.sqlite"


def _allow_connections() -> None:
    """Raises the number of open files to what is allowed: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server(uvicorn.Server):
    """The server of an application."""

    def __init__(self, application: Starlette, service: Service):
        settings = self._settings = service.settings
        self._service = service
        config = uvicorn.Config(
            application,
            settings.host,
            settings.port,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(settings.drain_seconds) or 1,
            backlog=2048,
        )
        Connection.seconds = settings.client_seconds
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `run_until_stopped`: uvicorn would end by the signal, not with exit code 0."""
        yield

    async def run_until_stopped(self) -> None:
        """Serves until a signal; raises ServeError if the address is not free."""
        loop = asyncio.get_running_loop()
        for number in signals.STOPPING:
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        watching = asyncio.create_task(self._end_if_failed())
        try:
            await self.serve()
        except SystemExit:  # of uvicorn, which has logged why
            raise ServeError(
                f"cannot listen at {self._settings.host}:{self._settings.port}: is another server there? Give --port."
            ) from None
        finally:
            watching.cancel()

    async def startup(self, sockets: Any = None) -> None:
        """Begins to listen, and logs where."""
        await super().startup(sockets)
        for server in self.servers:
            for one in server.sockets:
                host, port = one.getsockname()[:2]
                logging.info("listening", extra={"fields": {"url": f"http://{host}:{port}", "port": port}})

    def _stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._service.draining:
            logging.warning("%s again: stopping at once", name)
            self.force_exit = True
        logging.info("%s: answering what has been asked, then stopping", name)
        self._service.draining = self.should_exit = True

    def _reload(self) -> None:
        self._reloading = asyncio.create_task(self._reload_logged())

    async def _reload_logged(self) -> None:
        try:
            await self._service.reload()
        except Exception as error:
            logging.exception("the bundle is not loaded again, and the present one answers: %s", error)

    async def _end_if_failed(self) -> None:
        await self._service.failed.wait()
        self.should_exit = True


class Connection(HttpToolsProtocol):
    """A connection that is closed if the head of a request does not arrive in time."""

    seconds = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)  # type: ignore[arg-type]  # a transport of TCP
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        self._done()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begins to wait for the rest of the head."""
        super().on_message_begin()
        if self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Ends the wait for the head."""
        self._done()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
