"""The ASGI application of the server: routes, and around all of them request ids, problems, logs and metrics."""

import asyncio
import contextlib
import itertools
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrec.errors import cut
from genrec.serving.server import openapi
from genrec.serving.server.endpoint import REQUEST, ROUTE, Answer, Call, ClientGoneError, Endpoint, Operation, respond
from genrec.serving.server.problems import CONTENT_TYPE, ProblemError, problem_of
from genrec.serving.server.routes import OPERATIONS
from genrec.serving.server.service import Service

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
REQUEST_ID = re.compile(rb"[\w.-]{1,128}")
CLIENT_GONE = 499  # in logs and metrics
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def make(service: Service) -> Starlette:
    """Returns the application of a service, which starts and stops with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    middleware = [Middleware(Front, service)]
    if origins := [origin.strip() for origin in service.settings.cors_origin.split(",") if origin.strip()]:
        exposed, methods = ["ETag", "Retry-After", "X-Request-ID"], sorted(METHODS)
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=["*"],
            expose_headers=exposed,
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=routes(service), lifespan=lifespan, middleware=middleware, exception_handlers={HTTPException: _refused}
    )
    app.router.redirect_slashes = False
    return app


def routes(service: Service) -> list[BaseRoute]:
    """Returns the routes of a service: its operations, the OpenAPI document and the page."""
    document = json.dumps(openapi.document(OPERATIONS)).encode()

    async def describe(call: Call) -> Answer:
        return Answer(document)

    described = {"GET": Operation("Get this document", describe, {200: {"type": "object"}}, is_open=True)}
    endpoints = [Endpoint(path, operations, service) for path, operations in OPERATIONS.items()]
    endpoints.append(Endpoint("/openapi.json", described, service))
    # Ids may have slashes, written as %2F.
    routes: list[BaseRoute] = [Route(re.sub(r"}", ":path}", one.path), one) for one in endpoints]
    return [*routes, Route("/", _page, methods=["GET"]), Mount("/page", _Assets(directory=PAGE))]


async def _page(request: Request) -> Response:
    request.scope[ROUTE] = "/"
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


class _Assets(StaticFiles):
    """The files of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        scope[ROUTE] = "/page"
        found = await super().get_response(path, scope)
        found.headers.update(PAGE_HEADERS)
        return found


async def _refused(request: Request, error: Exception) -> Response:
    """Answers what no route takes."""
    assert isinstance(error, HTTPException)
    detail = f"there is nothing at {cut(request.url.path)}" if error.status_code == 404 else str(error.detail)
    problem = ProblemError(error.status_code, detail)
    body = problem.body(request.scope[REQUEST])
    return Response(body, error.status_code, error.headers, media_type=CONTENT_TYPE)


def _failed(error: Exception, request_id: str) -> Answer:
    """Returns the answer to a call that failed."""
    # A function of its own: kept by a variable of the frame that caught it, an error and all that its frames have stays
    # in memory until a garbage collection.
    problem = problem_of(error)
    if problem is None:
        logging.exception("a call failed", extra={"fields": {"request_id": request_id}})
        problem = ProblemError(500, "the server made a mistake; its log has more, under this request_id")
    return Answer(problem.body(request_id), problem.status, {**problem.headers, "Content-Type": CONTENT_TYPE})


class Front:
    """Around each call: a request id, problems in place of exceptions, a log line, and metrics."""

    def __init__(self, app: ASGIApp, service: Service):
        self._app, self._service = app, service
        self._prefix, self._count = secrets.token_hex(6), itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, request_id = time.perf_counter(), self._request_id(scope)
        scope[REQUEST] = request_id
        status = 0
        header = (b"x-request-id", request_id.encode())

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
                await send(message)
            else:
                async with asyncio.timeout(self._service.settings.client_seconds):  # of a client that does not read
                    await send(message)

        metrics = self._service.metrics
        metrics.open.inc()
        try:
            await self._app(scope, receive, sending)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception as error:
            found = _failed(error, request_id)
            if not status:
                with contextlib.suppress(TimeoutError):
                    await respond(sending, found)
        finally:
            metrics.open.dec()
            self._record(scope, status or CLIENT_GONE, time.perf_counter() - start, request_id)

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                return str(value.decode())
        return f"{self._prefix}-{next(self._count):x}"

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route, method = scope.get(ROUTE, "other"), scope["method"] if scope["method"] in METHODS else "other"
        self._service.metrics.count(method, route, status, seconds)
        if not route.startswith("/health"):
            fields = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 2),
                "client": (scope.get("client") or ("",))[0],
            }
            logging.info("answered", extra={"fields": fields})
