"""Faults of clients, of the store and of the machine: nothing acknowledged is lost, and every answer is a clear one."""

import contextlib
import itertools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import store_faults
from forked_scripts import Script
from stub_engine import Served, serving

from genrec.serving.store.store import Store

SECONDS = 120  # the longest that a server may take for anything
IDLE = 1000
LARGE = 10 << 20
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    with serving(f"sqlite:///{tmp_path_factory.mktemp('server')}/store.db") as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    named = {"sqlite": lambda: f"sqlite:///{tmp_path}/store.db"}
    return named.get(request.param, lambda: request.getfixturevalue("postgresql_database"))()


def is_problem(answer: httpx.Response, *statuses: int) -> bool:
    """Checks that an answer is a problem of one of these statuses, which says in one line what is wrong."""
    assert answer.status_code in statuses, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["title"]
    assert 0 < len(problem["detail"]) <= 1000
    assert not any(word in answer.text for word in ("Traceback", 'File "', "Error("))
    return True


def append(client: httpx.Client, user: str, *item_ids: str, key: str | None = None) -> httpx.Response:
    body = {"user": user, "events": [{"item_id": item_id} for item_id in item_ids]}
    return client.post("/v1/events", json=body if key is None else {**body, "key": key})


def events(client: httpx.Client, user: str) -> list[str]:
    answer = client.get(f"/v1/users/{user}/events", params={"last": 1000})
    return [event["item_id"] for event in answer.json()["events"]]


class Process:
    """A server as a process."""

    def __init__(self, folder: Path, store: str):
        self.script = Script(folder, "tests/serve_stub.py", store)
        self.script.wait_for('"listening"')
        lines = map(json.loads, self.script.output.splitlines())
        url = next(line["url"] for line in lines if line["message"] == "listening")
        self.client = httpx.Client(base_url=url, timeout=SECONDS)
        wait_for(lambda: self.client.get("/health/ready").status_code == 200)

    def close(self) -> None:
        self.client.close()
        self.script.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_servers_of_one_store_lose_nothing_when_they_are_killed(tmp_path):
    """Writers send each event, to either server, until it is acknowledged; meanwhile each server is killed once."""
    store = f"sqlite:///{tmp_path}/store.db"
    acknowledged: dict[str, int] = {f"u{number}": 0 for number in range(4)}
    with contextlib.ExitStack() as closing, ThreadPoolExecutor(8) as threads:
        running = [closing.enter_context(contextlib.closing(Process(tmp_path / "logs", store))) for _ in range(2)]
        stopping = threading.Event()
        closing.callback(stopping.set)

        def write(user: str) -> None:
            for turn in itertools.count():
                if stopping.is_set():
                    return
                number = acknowledged[user]
                with contextlib.suppress(httpx.TransportError):  # killed
                    answer = append(running[turn % 2].client, user, f"i{number % 10}", key=f"{number}")
                    acknowledged[user] += answer.status_code == 200

        def read() -> None:
            for turn in itertools.count():
                if stopping.is_set():
                    return
                with contextlib.suppress(httpx.TransportError):
                    running[turn % 2].client.post("/v1/recommend", json={"requests": [{"history": ["i1"]}]})

        work = [*(threads.submit(write, user) for user in acknowledged), threads.submit(read), threads.submit(read)]
        for killed in range(2):
            wait_for_more(acknowledged)
            added = running[killed].client.delete(f"/v1/items/i{20 + killed}")
            assert added.status_code == 204
            running[killed].script.kill()
            wait_for_more(acknowledged)  # by the other
            running[killed] = closing.enter_context(contextlib.closing(Process(tmp_path / "logs", store)))
        wait_for_more(acknowledged)
        stopping.set()
        for one in work:
            one.result()
        for user, server in itertools.product(acknowledged, running):
            kept = events(server.client, user)
            assert kept == [f"i{number % 10}" for number in range(len(kept))]
            assert len(kept) in (acknowledged[user], acknowledged[user] + 1)  # the last answer may have been lost
        for item_id, server in itertools.product(("i20", "i21"), running):
            is_problem(server.client.get(f"/v1/items/{item_id}"), 404)


def wait_for_more(acknowledged: Mapping[str, int]) -> None:
    before = sum(acknowledged.values())
    wait_for(lambda: sum(acknowledged.values()) >= before + 20)


def test_a_store_that_is_gone_is_a_problem_until_it_is_back(url, request):
    leave, come_back = store_faults.leaving(url, request)
    with serving(url) as server:
        client = server.client
        assert append(client, "u", "i1", "i2").status_code == 200
        leave()
        try:
            for answer in (
                append(client, "u", "i3"),
                client.get("/v1/users/u/events"),
                client.get("/v1/users"),
                client.delete("/v1/users/u"),
                client.get("/v1/profiles/u"),
                client.put("/v1/profiles/u", json={"entries": []}),
                client.delete("/v1/items/i5"),
                client.post("/v1/recommend", json={"requests": [{"user": "u"}]}),
            ):
                is_problem(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1
            assert client.get("/health/live").status_code == 200
            assert server.items(history=["i1"], top=3) == ["i0", "i1", "i2"]  # needs no store
        finally:
            come_back()
        assert append(client, "u", "i4").json() == {"user": "u", "events": 3}
        assert events(client, "u") == ["i1", "i2", "i4"]
        assert client.get("/v1/items/i5").status_code == 200
        assert client.delete("/v1/items/i5").status_code == 204


def test_a_full_disk_is_a_problem_and_loses_nothing(url, monkeypatch):
    Store.open(url).close()
    free = store_faults.fill_disk(url, monkeypatch)
    with serving(url) as server:
        client, kept = server.client, 0
        while (answer := append(client, "u", *["i1"] * 100)).status_code == 200:
            kept = answer.json()["events"]
        is_problem(answer, 503)
        assert len(events(client, "u")) == kept if kept else client.get("/v1/users/u/events").status_code == 404
        assert server.items(history=["i1"], top=2) == ["i0", "i1"]
        free()
        assert append(client, "u", *["i1"] * 100).json()["events"] == kept + 100


def test_idle_connections_leave_room_for_others(served):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most[1], most[1]))
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    try:
        with contextlib.ExitStack() as connections:
            address = ("127.0.0.1", served.client.base_url.port)
            for number in range(IDLE):
                connection = connections.enter_context(socket.create_connection(address, SECONDS))
                connection.sendall(head[: number % len(head)])  # from nothing to a part of the body
            assert served.items(history=["i1"], top=2) == ["i0", "i1"]
            assert append(served.client, "beside", "i1").status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert served.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/events", "/v1/score"])
def test_a_large_body_is_refused(served, path):
    parts = (b" " * (1 << 16) for _ in range(LARGE >> 16))
    for content in (b" " * LARGE, parts):  # of a length that is said, and of one that is not
        is_problem(served.client.post(path, content=content, headers=JSON), 413)
    assert served.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("value", [b"0", b"[]", b'""'])
def test_a_body_of_too_many_values_is_refused_before_it_is_read(served, value):
    values = b",".join([value] * 200_000)
    for body in (b"[%s]" % values, b'{"requests": [{"history": [%s]}]}' % values):
        is_problem(served.client.post("/v1/recommend", content=body, headers=JSON), 413)


BROKEN = (
    b"",
    b"{",
    b"nul",
    b"[]",
    b"3",
    b'"requests"',
    b"\xff\xfe",
    b"\x00",
    b"[" * 100_000,
    b'{"requests": ' * 10_000,
    b'{"requests": "all"}',
    b'{"requests": []}',
    json.dumps({"requests": [{}] * 65}).encode(),
    b'{"requests": [{}], "request": 1}',
    *(
        b'{"requests": [{%s}]}' % field
        for field in (
            b'"top": NaN',
            b'"top": 1e999',
            b'"top": 0',
            b'"top": "5"',
            b'"top": 5.5',
            b'"top": ' + b"9" * 5000,
            b'"user": ["u"]',
            b'"user": "\\ud800"',
            b'"user": ""',
            b'"history": "i1"',
            b'"history": [null]',
            b'"prompt": {}',
            b'"prompts": "calm"',
            b'"rules": "of"',
            b'"guidance": -Infinity',
            b'"deadline_ms": -1',
            b'"context": []',
            b'"filters": "a=1"',
        )
    ),
)


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:40]))
def test_a_broken_body_is_refused(served, body):
    for path in ("/v1/recommend", "/v1/events", "/v1/score", "/v1/explain"):
        is_problem(served.client.post(path, content=body, headers=JSON), 400, 422)


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "nobody"},
        {"user": "a\0b"},
        {"history": ["unknown"]},
        {"history": [], "allow": ["unknown"]},
        {"history": [], "deny": ["unknown"]},
        {"history": [], "filters": ["unknown=1"]},
        {"history": [], "filters": ["media_type"]},
        {"history": [], "filters": ["year>=soon"]},
        {"history": [], "profile": {"entries": [{"kind": "likes", "about": "media_type=music", "since": "soon"}]}},
    ],
    ids=str,
)
def test_what_is_unknown_is_a_problem_of_its_request_alone(served, fields):
    is_problem(served.client.post("/v1/recommend", json={"requests": [fields]}), 404, 422)
    both = served.client.post("/v1/recommend", json={"requests": [{"history": [], "top": 3}, fields]})
    good, bad = both.json()["results"]
    assert (both.status_code, len(good["recommended"])) == (200, 3)
    assert bad["problem"]["status"] in (404, 422)
    assert bad["problem"]["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/items/unknown", None),
        ("PATCH", "/v1/items/unknown", {"fields": {"title": "x"}}),
        ("DELETE", "/v1/items/unknown", None),
        ("GET", "/v1/items?limit=0", None),
        ("GET", "/v1/items?limit=ten", None),
        ("GET", "/v1/items?unknown=1", None),
        ("GET", "/v1/users/nobody/events", None),
        ("GET", "/v1/users/u/events?last=-1", None),
        ("GET", "/v1/users/%00/events", None),
        ("DELETE", "/v1/users/%00", None),
        ("GET", f"/v1/profiles/{'u' * 2000}", None),
        ("DELETE", "/v1/profiles/nobody", None),
        ("PATCH", "/v1/profiles/u", {"add": ["adores:media_type=music"]}),
        ("PATCH", "/v1/profiles/u", {"add": ["likes:unknown=jazz"]}),
        ("PATCH", "/v1/profiles/u", {"remove": ["media_type=unknown"]}),
        ("POST", "/v1/events", {"user": "u", "events": [{"item_id": "unknown"}]}),
        ("POST", "/v1/events", {"user": "u", "events": [{"item_id": "i1", "time": "yesterday"}]}),
        ("POST", "/v1/events", {"user": "ü" * 600, "events": [{"item_id": "i1"}]}),
        ("POST", "/v1/events", {"user": "u", "events": [{"item_id": "i1"}], "key": "\0"}),
        ("POST", "/v1/score", {"history": [], "items": ["unknown"]}),
        ("POST", "/v1/score", {"user": "nobody", "items": ["i1"]}),
        ("POST", "/v1/explain", {"history": [], "items": ["unknown"]}),
        ("GET", "/v1/recommend", None),
        ("PUT", "/v1/recommend", {"requests": [{}]}),
        ("GET", "/v1/unknown", None),
        ("GET", "/page/../../../../etc/passwd", None),
        ("GET", "/page/%2e%2e/app.py", None),
    ],
)
def test_what_is_unknown_is_a_problem(served, method, path, body):
    is_problem(served.client.request(method, path, json=body), *range(400, 500))
