"""The real server, as a process, with a small bundle."""

import concurrent.futures
import json
import os
import signal
import time

import httpx
import pytest
import tiny_training
from forked_scripts import Script

from genrec.decoding import loaded_model
from genrec.serving.bundle_export import ExportOptions, export


@pytest.fixture(scope="module")
def bundle(untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    untrained(folder / "work", tiny_training.EXPERIMENT)
    export(loaded_model.load(folder / "work", "best"), folder / "work", folder / "b", ExportOptions(4, 0, (1,)), None)
    return folder / "b"


def lines(script: Script) -> list[dict]:
    return [json.loads(line) for line in script.output.splitlines() if line.startswith("{")]


def start(folder, bundle, *flags: str) -> tuple[Script, httpx.Client]:
    """Starts a server, and waits until it is ready."""
    environment = {"GENREC_BUNDLE": str(bundle), "GENREC_PORT": "0", "GENREC_STORE": f"sqlite:///{folder}/store.sqlite"}
    script = Script(folder / "logs", "tools/serve.py", *flags, environment=environment)
    script.wait_for('"message": "ready"')
    (url,) = [line["url"] for line in lines(script) if line["message"] == "listening"]
    assert not url.endswith(":8080") and (folder / "store.sqlite").exists()  # but as the environment says
    return script, httpx.Client(base_url=url, timeout=60)


def test_a_server_is_killed_restarted_reloaded_and_drained(bundle, tmp_path):
    script, client = start(tmp_path, bundle)
    item = client.get("/v1/items?limit=1").json()["items"][0]["item_id"]
    acknowledged = [0] * 4

    def append(thread: int) -> None:
        body = {"user": f"u{thread}", "events": [{"item_id": item}]}
        with concurrent.futures.ThreadPoolExecutor(1):
            while True:
                try:
                    acknowledged[thread] = client.post("/v1/events", json=body).json()["events"]
                except httpx.HTTPError:
                    return

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        appending = [threads.submit(append, thread) for thread in range(4)]
        while min(acknowledged) < 3:
            time.sleep(0.01)
        script.kill()
        for one in appending:
            one.result()

    script, client = start(tmp_path, bundle)
    for thread, count in enumerate(acknowledged):  # one more may have come before its acknowledgment
        kept = len(client.get(f"/v1/users/u{thread}/events?last=10000").json()["events"])
        assert count <= kept <= count + 1
    ask = {"requests": [{"user": "u0", "top": 3, "deadline_ms": 60_000}]}
    (result,) = client.post("/v1/recommend", json=ask).json()["results"]
    assert len(result["recommended"]) == 3
    before = client.get("/metrics").text
    assert len([line for line in before.splitlines() if line.startswith("genrec_compilations{")]) == 1

    os.kill(script.pid, signal.SIGHUP)
    end = time.monotonic() + 120
    while len([line for line in lines(script) if line["message"] == "ready"]) < 2:
        assert time.monotonic() < end
        assert client.post("/v1/recommend", json=ask).status_code == 200

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(client.post, "/v1/recommend", json={"requests": ask["requests"] * 8}) for _ in range(8)]
        while "genrec_queue_requests 0.0" in client.get("/metrics").text and not all(one.done() for one in asked):
            pass
        script.terminate()
        assert {one.result().status_code for one in asked} == {200}
    assert script.wait() == 0
    assert {"request_id", "route", "status", "ms"} <= lines(script)[-1].keys() | lines(script)[-2].keys()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--bundle=nowhere"], "nowhere"),
        (["--port=none"], "port"),
        (["--token_file=nowhere"], "token_file"),
        (["--store=mysql://x"], "sqlite"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_line(bundle, tmp_path, flags, named):
    script = Script(tmp_path, "tools/serve.py", f"--bundle={bundle}", *flags)
    assert script.wait() == 1
    assert named in script.errors
    assert "Traceback" not in script.errors
