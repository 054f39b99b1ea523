"""Endpoints: what a call may send is declared beside the function that answers it, and checked before it runs."""

import asyncio
import dataclasses
import json
import math
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jsonschema_rs
from starlette.types import Message, Receive, Scope, Send

from genrec.errors import cut
from genrec.serving.server import api
from genrec.serving.server.api import COMPONENTS, Schema
from genrec.serving.server.problems import ProblemError

if TYPE_CHECKING:
    from genrec.serving.server.service import Service

JSON = b"application/json"
ROUTE, REQUEST = "genrec.route", "genrec.request"  # keys of the scope: the path of an endpoint, the request id
MOST_VALUES = 100_000  # of a body, more than any that is of use: to parse and to check each takes time of all others
MOST_DISCARDED = 64 << 20  # bytes of a body that is too large which are read, so that the client hears of it


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a call; `body` is JSON unless the headers have another content type."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    """Returns an answer with the JSON of a value."""
    return Answer(json.dumps(value).encode(), status, {name.replace("_", "-"): text for name, text in headers.items()})


@dataclasses.dataclass
class Call:
    """A call: what was sent, checked against the operation's schemas."""

    service: "Service"
    body: Any  # of the schema of the operation
    path: Mapping[str, str]  # parameters of the path
    query: Mapping[str, Any]  # parameters after "?", with defaults
    headers: Mapping[bytes, bytes]
    request_id: str


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter after "?"."""

    name: str
    schema: Schema
    default: str | int
    description: str

    def parse(self, text: str) -> str | int:
        """Returns the value of a text; raises ProblemError if it is none."""
        if self.schema["type"] != "integer":
            if len(text) > self.schema["maxLength"]:
                raise ProblemError(422, f"{self.name} has more than {self.schema['maxLength']} characters")
            return text
        low, high = self.schema["minimum"], self.schema["maximum"]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise ProblemError(422, f"{self.name} is {cut(repr(text))}: give a whole number from {low} to {high}")
        return int(text)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A method of a path: its function, the schemas of its body and answer."""

    summary: str
    run: Callable[[Call], Awaitable[Answer]]
    answers: Mapping[int, Schema | None]  # by status, those that are no problem; None for no body
    problems: Sequence[int] = ()  # further statuses, beside those that every operation has
    body: Schema | None = None
    parameters: Sequence[Parameter] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)  # that it reads, with descriptions
    admin: bool = False  # whether it needs a token of an administrator
    is_open: bool = False  # whether it needs no token
    cancelable: bool = False  # whether it ends when the client goes
    content_type: str = "application/json"


def validator(schema: Schema) -> Any:
    """Returns the validator of a schema that may refer to those of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": COMPONENTS}})


class Endpoint:
    """The ASGI application of a path."""

    def __init__(self, path: str, operations: Mapping[str, Operation], service: "Service"):
        self.path, self.operations, self._service = path, operations, service
        self._validators = {
            method: validator(operation.body) for method, operation in operations.items() if operation.body is not None
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a call; raises ProblemError."""
        scope[ROUTE] = self.path
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        operation = self.operations.get(method)
        if operation is None:
            allowed = ", ".join([*self.operations, *(["HEAD"] if "GET" in self.operations else [])])
            raise ProblemError(405, f"{self.path} takes {allowed}", {"Allow": allowed})
        headers = dict(scope["headers"])
        if not operation.is_open:
            self._service.admit(scope, headers, operation.admin)
        for name, text in scope["path_params"].items():
            if not api.ID["minLength"] <= len(text) <= api.ID["maxLength"]:
                raise ProblemError(422, f"{name} has {len(text):,} characters: give 1 to {api.ID['maxLength']:,}")
        query = _query(scope, operation.parameters)
        body = None
        if operation.body is not None:
            body = await self._body(headers, receive, self._validators[method])
        call = Call(self._service, body, scope["path_params"], query, headers, scope[REQUEST])
        if operation.cancelable:
            found = await _while_connected(operation.run(call), receive)
        else:
            found = await operation.run(call)
        await respond(send, found, operation.content_type)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, schema: Any) -> Any:
        """Returns the value of a body; raises ProblemError if it is too large or slow, or not of the schema."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        settings = self._service.settings
        try:
            async with asyncio.timeout(settings.client_seconds):
                text = await _read(receive, settings.max_body)
        except TimeoutError:
            raise ProblemError(408, "the body did not arrive in time", {"Connection": "close"}) from None
        if kind != JSON:
            raise ProblemError(415, "send JSON, with the header Content-Type: application/json")
        value = parse(text)
        try:
            schema.validate(value)
        except jsonschema_rs.ValidationError as error:
            raise ProblemError(422, _wrong(error)) from None
        except ValueError as error:  # lists within lists, hundreds deep
            raise ProblemError(400, f"the body cannot be checked ({cut(str(error))})") from None
        return value


def _wrong(error: jsonschema_rs.ValidationError) -> str:
    """Returns what is wrong with a body, and where."""
    place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in error.instance_path)
    return f"{cut(place.lstrip('.')) or 'the body'}: {cut(error.message)}"


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{cut(text)} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)


def parse(text: bytes) -> Any:
    """Returns the value of a JSON text.

    Raises ProblemError if it is none, or has too many values, or text that is not UTF-8.
    """
    if (values := text.count(b",")) > MOST_VALUES:
        raise ProblemError(413, f"the body has about {values:,} values, more than {MOST_VALUES:,}")
    try:
        value = _DECODER.decode(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is no JSON in UTF-8 ({cut(str(error))})") from None
    return value


async def _read(receive: Receive, most: int) -> bytes:
    """Returns a body; raises ProblemError if it has more than `most` bytes."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size <= most:
            parts.append(part)
        elif size > MOST_DISCARDED:
            raise ProblemError(413, f"the body has more than {most:,} bytes", {"Connection": "close"})
    if size > most:
        raise ProblemError(413, f"the body has {size:,} bytes, more than {most:,}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


class ClientGoneError(Exception):
    """The client has closed the connection: there is nobody to answer."""


async def _while_connected(run: Awaitable[Answer], receive: Receive) -> Answer:
    """Returns what a coroutine does; cancels it, and raises ClientGoneError, if the client goes before."""
    own, gone = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if own is not None:
            own.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await run
    except asyncio.CancelledError:
        if gone and own is not None and own.uncancel() == 0:
            raise ClientGoneError from None
        raise
    finally:
        watching.cancel()


def _query(scope: Scope, parameters: Sequence[Parameter]) -> dict[str, Any]:
    if not parameters and not scope["query_string"]:
        return {}
    known = {parameter.name: parameter for parameter in parameters}
    found: dict[str, Any] = {parameter.name: parameter.default for parameter in parameters}
    try:
        text = scope["query_string"].decode("ascii")
        given = urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise ProblemError(400, "what follows ? in the address is no UTF-8 text of names and values") from None
    for name, text in given:
        if name not in known:
            raise ProblemError(422, f"there is no parameter {cut(repr(name))}; there are {', '.join(known) or 'none'}")
        found[name] = known[name].parse(text)
    return found


async def respond(send: Send, found: Answer, content_type: str = "application/json") -> None:
    """Sends an answer."""
    headers = [(name.lower().encode(), text.encode()) for name, text in found.headers.items()]
    if found.status != 204:
        headers.append((b"content-length", str(len(found.body)).encode()))
        if b"content-type" not in dict(headers):
            headers.append((b"content-type", content_type.encode()))
    start: Message = {"type": "http.response.start", "status": found.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": found.body})
