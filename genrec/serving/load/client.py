"""HTTP/1.1 client of the load generator, which shares the cores with the server that it measures.

asyncio and httptools alone: a request takes 0.05 ms of a core, with httpx 1 ms; and none is repeated in silence.
"""

import asyncio
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import httptools
from etils import epath

from genrec.errors import GenrecError, shown

# Seconds after which an idle connection is not used again: the server may be closing it. Ours keeps them for 75 s, and
# proxies for 60 s; like theirs, the connections of one phase serve the next.
IDLE = 30.0


class LoadTestError(GenrecError):
    """Error in the settings of a load test, or a server that cannot be measured. The message says what to do."""


class Answer(NamedTuple):
    """Answer to a request, or the error in its place."""

    status: int  # 0 where there was no answer
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    broken: str = ""  # why there was no answer

    def json(self) -> Any:
        """Returns the value of the body; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def read_token(path: str | None) -> str:
    """Returns the first token of an administrator in a token file of the server, else its first token; "" without file.

    Raises LoadTestError if the file has none.
    """
    if not path:
        return ""
    try:
        lines = [line.split() for line in epath.Path(path).read_text().splitlines()]
    except OSError as error:
        raise LoadTestError(f"--token_file={path}: {error.strerror}") from error
    tokens = [words for words in lines if words and not words[0].startswith("#")]
    if not tokens:
        raise LoadTestError(f"--token_file={path} has no token.")
    tokens.sort(key=lambda words: words[1:] != ["admin"])
    return tokens[0][0]


class Client:
    """Connections to one server, as many as there are requests at once; kept open and used again."""

    def __init__(self, url: str, token: str = "", timeout: float = 60.0):
        """`timeout` is in seconds, for each request. Raises LoadTestError if `url` is no http or https address."""
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise LoadTestError(f"--url={shown(url)}: give the address of a server, such as http://127.0.0.1:8080.")
        self.url, self._timeout, self._ssl = url, timeout, parts.scheme == "https"
        self._host, self._port = parts.hostname, port or (443 if self._ssl else 80)
        self._base = parts.path.rstrip("/")
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._headers = f"Host: {parts.netloc}\r\nAccept: application/json\r\n{authorization}"
        self._idle: list[_Connection] = []

    async def request(self, method: str, path: str, value: object = None) -> Answer:
        """Sends a request, with `value` as its JSON body unless it is None, and returns its answer."""
        body = b"" if value is None else json.dumps(value).encode()
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._headers}{kind}Content-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection()
                answer = await connection.exchange(head.encode() + body)
        except TimeoutError:
            return Answer(0, b"", {}, f"no answer within {self._timeout:g} s")
        except (OSError, httptools.HttpParserError) as error:
            return Answer(0, b"", {}, f"{type(error).__name__}: {error}")
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and time.monotonic() - connection.last < IDLE:
                return connection
            connection.close()
        _, made = await asyncio.get_running_loop().create_connection(
            _Connection, self._host, self._port, ssl=self._ssl or None
        )
        return made

    def close(self) -> None:
        """Closes all idle connections."""
        while self._idle:
            self._idle.pop().close()


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time. httptools calls the methods `on_...`."""

    def __init__(self) -> None:
        self.is_reusable, self.last = True, time.monotonic()
        self._transport: asyncio.BaseTransport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    async def exchange(self, data: bytes) -> Answer:
        """Sends the bytes of a request and returns the answer; raises OSError if the connection is lost."""
        assert isinstance(self._transport, asyncio.Transport)  # connected
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.is_reusable = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        self.last = time.monotonic()
        self.is_reusable &= self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            status = self._parser.get_status_code()
            self._answer.set_result(Answer(status, b"".join(self._body), self._headers))
