"""A stand-in for the server, which answers as docs/serving.md says and can be told to err."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROBLEM = "application/problem+json"


@dataclasses.dataclass
class StandIn:
    """Its behavior, and what it was asked."""

    items: list[str]
    seconds: float = 0.0  # of a search
    at_once: int = 1000  # searches; more are rejected
    ready: bool = True
    retry_after: bool = True
    forgets_removals: bool = False
    closes: bool = False  # every connection after its answer
    breaks: bool = False  # closes without an answer
    token: str = ""
    problem: dict | None = None  # in place of each list
    url: str = ""

    def __post_init__(self):
        self.asked: list[dict] = []
        self.removed: set[str] = set()
        self.connections = self.searching = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                headers = {}
                while (line := (await reader.readline()).decode().strip()) != "":
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if self.breaks and path.startswith("/v1/recommend"):
                    break
                status, value = await self.answer(method, path, headers, json.loads(body) if body else None)
                text = value if isinstance(value, str) else json.dumps(value)
                more = "Retry-After: 1\r\n" if status == 503 and self.retry_after else ""
                more += "Connection: close\r\n" if self.closes else ""
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(text.encode())}\r\n\r\n{text}".encode()
                )
                await writer.drain()
                if self.closes:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def answer(self, method: str, path: str, headers: dict[str, str], value) -> tuple[int, object]:
        if path == "/health/ready":
            return (200 if self.ready else 503), {}
        if path == "/version":
            return 200, {"version": "stand-in"}
        if path == "/metrics":
            return 200, "# HELP x\nprocess_resident_memory_bytes 1.5e+08\ngenrec_compilations_total 12.0\nother 3\n"
        if path.startswith("/v1/items/"):
            return self.change(method, path.rpartition("/")[2], headers)
        (request,) = value["requests"]
        self.asked.append(request)
        if self.problem:
            return 200, {"results": [{"problem": self.problem}]}
        if self.searching >= self.at_once:
            return 503, {"status": 503, "detail": "full"}
        self.searching += 1
        try:
            present = [item for item in self.items if self.forgets_removals or item not in self.removed]
            if self.seconds:
                await asyncio.sleep(self.seconds)
        finally:
            self.searching -= 1
        found = [{"item_id": item, "title": item, "score": -1.0} for item in present[: request["top"]]]
        return 200, {"results": [{"recommended": found}]}

    def change(self, method: str, item: str, headers: dict[str, str]) -> tuple[int, object]:
        if headers.get("authorization", "") != (f"Bearer {self.token}" if self.token else ""):
            return 403, {"status": 403, "detail": "not an administrator"}
        if method == "DELETE":
            self.removed.add(item)
        elif method == "PUT":
            self.removed.discard(item)
            if item not in self.items:
                self.items.append(item)
        elif item in self.removed or item not in self.items:
            return 404, {"status": 404, "detail": f"no item {item}"}
        return {"DELETE": 204, "PUT": 201, "PATCH": 200}[method], {}

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        """Serves in a thread, at `url`."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self.handle, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
