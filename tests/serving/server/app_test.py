import concurrent.futures
import gc
import json
import socket
import threading
import time

import httpx
import pytest
from stub_engine import Served, StubEngine, serving

from genrec.serving.server import service as services
from genrec.serving.server.problems import ProblemError
from genrec.serving.store.store import Store


@pytest.fixture(scope="module")
def store_url(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('server')}/store.sqlite"


@pytest.fixture(scope="module")
def served(store_url):
    with serving(store_url, max_body=100_000) as found:
        yield found


def problem(response: httpx.Response) -> dict:
    """Returns the fields of a problem, which every error of the server is."""
    assert response.headers["content-type"] == "application/problem+json"
    fields = response.json()
    assert fields["status"] == response.status_code
    assert fields["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in fields["detail"]
    return fields


# Lists.


def eventually(check) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_list_has_items_scores_and_the_bundle(served):
    answer = served.recommend(history=["i3"], top=2, exclude_history=True).raise_for_status().json()
    assert answer["bundle"] == {"fingerprint": "stub" * 4, "version": "0.1.0"}
    (result,) = answer["results"]
    assert [one["item_id"] for one in result["recommended"]] == ["i0", "i1"]
    assert result["recommended"][1]["score"] == -1
    assert result["recommended"][1]["title"] == "Título 1 of the Night"
    assert result["recommended"][1]["attributes"] == {
        "title": "Título 1 of the Night",
        "media_type": "podcast",
        "year": 1991,
        "tags": ["calm"],
    }
    assert result["history_items"] == 1
    assert result["source"] == "generator"
    assert result["certified"] == 2
    assert "understood" not in result


def test_filters_and_lists_of_items_restrict_a_list(served):
    assert served.items(history=[], top=3, filters=["media_type=podcast"]) == ["i1", "i4", "i7"]
    assert served.items(history=[], top=3, deny=["i0", "i2"]) == ["i1", "i3", "i4"]
    assert served.items(history=[], top=3, allow=["i9", "i7"]) == ["i7", "i9"]


def test_a_prompt_is_answered_with_what_was_understood_and_what_is_short(served):
    (result,) = served.recommend(history=[], prompt="only night", allow=["i1"], top=2).json()["results"]
    assert result["understood"]["text"] == "only night"
    assert result["shortage"]["loosened"] == [1]
    assert [one["item_id"] for one in result["shortage"]["recommended"]] == ["i0", "i1"]


def test_of_several_requests_each_has_its_answer_or_problem(served):
    body = {"requests": [{"history": ["i1"], "top": 1}, {"history": ["nothing"]}, {"history": ["i13"]}]}
    first, second, third = served.client.post("/v1/recommend", json=body).raise_for_status().json()["results"]
    assert len(first["recommended"]) == 1
    assert second["problem"]["status"] == third["problem"]["status"] == 422


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"user": "nobody"}, 404, "nobody"),
        ({"history": ["nothing"]}, 422, "nothing"),
        ({"history": [], "filters": ["colour=red"]}, 422, "colour"),
        ({"history": [], "filters": ["media_type"]}, 422, "filter"),
        ({"history": [], "top": 0}, 422, "top"),
        ({"history": [], "topp": 1}, 422, "topp"),
        ({"history": [], "top_p": 0.5}, 422, "temperature"),
        ({"history": "i1"}, 422, "history"),
        ({"history": [], "rules": "maybe"}, 422, "rules"),
        ({"history": [], "filters": [" " * 9_000]}, 422, "filter"),  # at once: nobody else is answered meanwhile
        ({"history": [], "prompt": "-" * 9_000}, 422, "prompt"),
        ({"history": [], "profile": {"entries": [{"kind": "likes", "about": "nothing"}]}}, 422, "COLUMN"),
        ({"history": ["i14"]}, 500, "request_id"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_that_names_it(served, fields, status, named):
    response = served.recommend(**fields)
    assert response.status_code == status
    assert named in problem(response)["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"requests": [', "application/json", 400),
        (b'{"requests": [{"history": [], "guidance": NaN}]}', "application/json", 400),
        (b'{"requests": [{"history": [], "guidance": 1e999}]}', "application/json", 400),
        (b'{"requests": [{"prompt": "\\ud800"}]}', "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b'{"requests": [{"history": ' + b"[" * 300 + b"]" * 300 + b"}]}", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "application/json", 422),
        (b'{"requests": []}', "text/plain", 415),
        (b" " * 100_001, "application/json", 413),
        (b" " * 10_000_000, "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_read_are_problems(served, body, kind, status):
    response = served.client.post("/v1/recommend", content=body, headers={"content-type": kind})
    assert response.status_code == status
    problem(response)


def test_unknown_paths_methods_and_parameters_are_problems(served):
    assert problem(served.client.get("/v2/recommend"))["status"] == 404
    response = served.client.get("/v1/recommend")
    assert problem(response)["status"] == 405
    assert response.headers["allow"] == "POST"
    assert problem(served.client.get("/v1/items?limit=none"))["status"] == 422
    assert problem(served.client.get("/v1/items?like=x"))["status"] == 422


def test_a_refused_call_leaves_nothing_for_garbage_collections(served):
    def left() -> int:
        return sum(isinstance(one, ProblemError) for one in gc.get_objects())

    gc.collect()
    before = left()
    gc.disable()
    try:
        for _ in range(3):
            assert served.recommend(user="nobody").status_code == 404
            assert served.client.get("/v1/recommend").status_code == 405
        eventually(lambda: left() == before)
    finally:
        gc.enable()


def test_a_request_id_is_returned(served):
    assert served.client.get("/version", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert served.client.get("/version", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_scores_are_best_first_and_explanations_in_the_order_of_the_items(served):
    body = {"history": ["i1"], "items": ["i5", "i2"]}
    answer = served.client.post("/v1/score", json={**body, "model": "generator"}).json()
    assert answer["model"] == "generator"
    assert answer["scores"] == [{"item_id": "i2", "score": -2.0}, {"item_id": "i5", "score": -5.0}]
    found = served.client.post("/v1/explain", json=body).json()["explanations"]
    assert [one["item_id"] for one in found] == ["i5", "i2"]
    assert found[0]["because"] == ["you chose it"]
    assert found[0]["reasons"] == [["event 1 ago", 0.5]]


def test_removed_items_are_neither_scored_nor_explained(tmp_path):
    with serving(f"sqlite:///{tmp_path}/store.db") as served:
        assert served.client.delete("/v1/items/i5").status_code == 204
        for path in ("/v1/score", "/v1/explain"):
            refused = served.client.post(path, json={"history": ["i5"], "items": ["i2", "i5"]})
            assert problem(refused)["status"] == 422 and "i5 was removed" in problem(refused)["detail"].replace("'", "")
            assert served.client.post(path, json={"history": ["i5"], "items": ["i2"]}).status_code == 200


def test_a_change_that_fails_does_not_block_later_ones(tmp_path):
    engine, store = StubEngine(), Store.open(f"sqlite:///{tmp_path}/store.db")
    one = engine.change_items

    def failing(changes):
        if any(change.item_id == "i1" for change in changes):
            raise RuntimeError("a mistake")
        one(changes)

    engine.change_items = failing
    store.add_change('{"kind": "of a later version"}')
    with serving(f"sqlite:///{tmp_path}/store.db", engine) as served:
        assert problem(served.client.delete("/v1/items/i1"))["status"] == 500
        assert served.client.delete("/v1/items/i2").status_code == 204
        assert served.metric("genrec_catalogue_change ") == 3
    store.close()


def test_the_ranker_scores_items_where_there_is_one(served, monkeypatch):
    body = {"history": ["i1"], "items": ["i2", "i5"]}
    answer = served.client.post("/v1/score", json=body).json()
    assert answer["model"] == "ranker"
    assert [one["item_id"] for one in answer["scores"]] == ["i5", "i2"]
    for name, value in (("prompt", "calm"), ("context", {"country": "DE"}), ("profile", {"entries": []})):
        refused = served.client.post("/v1/score", json={**body, name: value})
        assert refused.status_code == 422 and f"no {name}" in problem(refused)["detail"]
    assert served.client.post("/v1/score", json={**body, "prompt": "calm", "model": "generator"}).status_code == 200
    monkeypatch.setattr(served.engine, "has_ranker", False)
    assert served.client.post("/v1/score", json=body).json()["model"] == "generator"
    refused = served.client.post("/v1/score", json={**body, "model": "ranker"})
    assert refused.status_code == 422 and "train_sasrec" in problem(refused)["detail"]


def test_whole_numbers_may_be_written_as_others(served):
    assert len(served.items(history=[], top=4.0, seed=1.0)) == 4


def test_a_list_may_be_of_another_source(served):
    assert served.client.get("/version").json()["sources"] == ["generator", "item-kNN"]
    asked = {"history": ["i39"], "top": 2, "exclude_history": True, "source": "item-kNN"}
    (result,) = served.recommend(**asked, filters=["media_type=podcast"]).raise_for_status().json()["results"]
    assert result["source"] == "item-kNN"
    assert [one["item_id"] for one in result["recommended"]] == ["i37", "i34"]
    for name, value in (("prompt", "calm"), ("temperature", 0.5), ("context", {"country": "DE"}), ("max_share", 0.5)):
        refused = served.recommend(**asked, **{name: value})
        assert refused.status_code == 422 and f"item-kNN reads no {name}" in problem(refused)["detail"]
    refused = served.recommend(**{**asked, "source": "transitions"})
    assert refused.status_code == 422 and "no source transitions" in problem(refused)["detail"]
    assert served.recommend(**{**asked, "source": "oracle"}).status_code == 422


def test_a_request_whose_client_has_gone_is_not_computed(served):
    served.engine.gate.clear()
    computed = len(served.engine.histories)
    blocked = threading.Thread(target=lambda: served.items(history=["i0"]))
    blocked.start()
    time.sleep(0.05)
    body = json.dumps({"requests": [{"history": ["i30"]}]}).encode()
    head = "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((served.client.base_url.host, served.client.base_url.port)) as gone:
        gone.sendall(head.encode() + body)
        while served.metric("genrec_queue_requests") < 1:
            time.sleep(0.01)
    while served.metric("genrec_http_requests_open") > 2:  # the blocked one, and that for the metrics
        time.sleep(0.01)
    served.engine.gate.set()
    blocked.join()
    served.items(history=["i31"])
    assert served.engine.histories[computed:] == [[0], [31]]


# Users.


def test_the_next_call_knows_an_event(served):
    append = {"user": "anna", "events": [{"item_id": "i2", "time": "2024-01-31T12:00:00Z"}, {"item_id": "i1"}]}
    assert served.client.post("/v1/events", json=append).json() == {"user": "anna", "events": 2}
    assert served.items(user="anna", top=2, exclude_history=True) == ["i0", "i3"]
    append = {"user": "anna", "events": [{"item_id": "i0"}], "key": "once"}
    assert [served.client.post("/v1/events", json=append).json()["events"] for _ in range(2)] == [3, 3]
    assert served.items(user="anna", top=1, exclude_history=True) == ["i3"]
    assert served.engine.histories[-1] == [2, 1, 0]
    found = served.client.get("/v1/users/anna/events?last=2").json()["events"]
    assert [one["item_id"] for one in found] == ["i1", "i0"]
    assert {"user": "anna", "events": 3} in served.client.get("/v1/users").json()["users"]


@pytest.mark.parametrize(
    "event", [{"item_id": "nothing"}, {"item_id": "i1", "time": "soon"}, {"item_id": "i1", "time": "9999-01-01"}]
)
def test_events_that_cannot_have_been_are_problems_and_none_is_kept(served, event):
    body = {"user": "berta", "events": [{"item_id": "i0"}, event]}
    assert problem(served.client.post("/v1/events", json=body))["status"] == 422
    assert problem(served.client.get("/v1/users/berta/events"))["status"] == 404


def test_a_profile_is_written_changed_and_deleted(served):
    path = "/v1/profiles/carl%2Fb"
    assert served.client.get(path).status_code == 404
    written = served.client.put(path, json={"entries": [{"kind": "likes", "about": "media_type=podcast"}]})
    assert written.json()["user"] == "carl/b"
    assert "podcast" in written.json()["text"][0]
    tag = written.headers["etag"]
    add = ["blocked for a week:item=i3", {"kind": "likes", "about": "tags=calm", "since": "2024-01-01"}]
    changed = served.client.patch(path, json={"add": add, "remove": ["media_type=podcast"]}).json()
    assert [one["about"] for one in changed["entries"]] == ["item=i3", "tags=calm"]
    assert problem(served.client.put(path, json={"entries": []}, headers={"If-Match": tag}))["status"] == 412
    assert problem(served.client.put(path, json={"entries": []}, headers={"If-None-Match": "*"}))["status"] == 412
    assert problem(served.client.patch(path, json={"remove": ["media_type=podcast"]}))["status"] == 422
    assert problem(served.client.patch(path, json={"add": ["likes:genre=jazz"]}))["status"] == 422
    read = served.client.get(path)
    assert read.json() == changed
    put = served.client.put(path, json={"entries": []}, headers={"If-Match": read.headers["etag"]})
    assert put.json()["entries"] == []
    assert served.client.delete(path).status_code == 204
    assert served.client.delete(path).status_code == 404


def test_a_hundred_concurrent_changes_of_a_profile_lose_none(served):
    def add(number: int) -> int:
        body = {"add": [{"kind": "likes", "about": f"item=i{number % 40}|i{number // 40}"}]}
        return served.client.patch("/v1/profiles/dora", json=body).status_code

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        assert set(threads.map(add, range(100))) == {200}
    abouts = {"=".join(sorted({f"i{number % 40}", f"i{number // 40}"})) for number in range(100)}
    assert len(served.client.get("/v1/profiles/dora").json()["entries"]) == len(abouts)


def test_everything_of_a_user_is_deleted(served):
    served.client.post("/v1/events", json={"user": "emil", "events": [{"item_id": "i0"}]})
    served.client.put("/v1/profiles/emil", json={"entries": []})
    assert served.client.delete("/v1/users/emil").json() == {"events": 1, "profile": True}
    assert served.recommend(user="emil").status_code == 404


# Items.


def test_titles_are_found_by_the_beginning_of_any_word(served):
    def found(prefix: str, limit: int = 20) -> list[str]:
        answer = served.client.get("/v1/items", params={"prefix": prefix, "limit": limit}).raise_for_status().json()
        return [one["item_id"] for one in answer["items"]]

    assert found("titulo 3") == ["i3", *(f"i{row}" for row in range(30, 40))]
    assert found("TÍTULO 3 ") == ["i3"]
    assert found("nig", limit=2) == ["i0", "i1"]
    assert found("ight") == []
    assert len(found("")) == 20


def test_columns_are_listed_with_types_and_frequent_values(served):
    columns = {one["name"]: one for one in served.client.get("/v1/columns").raise_for_status().json()["columns"]}
    assert {name: one["type"] for name, one in columns.items()} == {
        "title": "text",
        "media_type": "text",
        "year": "number",
        "tags": "list",
    }
    assert columns["media_type"]["values"][0] == {"value": "music", "items": 14}
    assert columns["title"]["values"] == []
    assert {one["value"] for one in columns["tags"]["values"]} == {"calm", "live"}


def test_items_are_added_changed_and_removed_for_all_servers_and_after_a_restart(tmp_path):
    url = f"sqlite:///{tmp_path}/store.sqlite"

    with serving(url) as one, serving(url) as other:
        path = "/v1/items/new%2F1"
        assert one.client.put(path, json={"fields": {"title": "Brand new"}, "vector": [1.0]}).status_code == 201
        assert one.client.put(path, json={"fields": {"title": "Newer", "media_type": "music"}}).status_code == 200
        assert one.client.patch(path, json={"fields": {"year": 2024}}).json()["attributes"]["year"] == 2024
        assert one.client.delete("/v1/items/i0").status_code == 204
        assert problem(one.client.get("/v1/items/i0"))["status"] == 404
        assert problem(one.client.delete("/v1/items/i0"))["status"] == 404
        assert problem(one.client.patch("/v1/items/i1", json={"fields": {"colour": "red"}}))["status"] == 422
        assert problem(one.client.patch("/v1/items/i1", json={"fields": {"year": -1}}))["status"] == 422
        assert not any("colour" in change or "-1" in change for _, change in one.service.store.changes(0))
        assert one.items(history=[], allow=["new/1", "i0", "i1"]) == ["i1", "new/1"]
        eventually(lambda: other.client.get("/v1/items/i0").status_code == 404)  # the last change
        assert other.client.get(path).json()["attributes"]["year"] == 2024
        assert other.items(history=[], allow=["new/1", "i0", "i1"]) == ["i1", "new/1"]
        found = other.client.get("/v1/items?prefix=newe").json()["items"]
        assert [item["item_id"] for item in found] == ["new/1"]
    with serving(url) as again:
        assert again.items(history=[], allow=["new/1", "i0", "i1"]) == ["i1", "new/1"]
        assert again.client.get(path).json()["title"] == "Newer"


# Operation.


def test_metrics_count_requests_batches_and_compilations(served):
    before = served.metric("genrec_recommendations_total")
    served.items(history=[])
    assert served.metric("genrec_recommendations_total") == before + 1
    assert served.metric("genrec_compilations") == 7
    assert served.metric("genrec_encoded_histories") == 1004
    assert served.metric("genrec_http_requests_total") > 1
    assert served.metric("process_resident_memory_bytes") > 0


def test_the_page_and_the_document_are_served(served):
    assert "<html" in served.client.get("/").raise_for_status().text
    assert served.client.get("/page/app.js").raise_for_status().headers["content-type"].startswith("text/javascript")
    assert served.client.get("/page/..%2Fapp.py").status_code == 404
    assert served.client.get("/openapi.json").raise_for_status().json()["openapi"].startswith("3.1")


def test_health_says_what_is_there(served):
    assert served.client.get("/health/live").json() == {"status": "live"}
    assert served.client.get("/health/ready").json() == {"status": "ready", "store": "available"}
    version = served.client.get("/version").json()
    assert version["bundle"]["fingerprint"] == "stub" * 4
    assert version["metrics"] == {"recall@10": 0.5}


def test_tokens_are_needed_where_there_are_some(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("# comment\nreader\nboss admin\n")

    def asked(served: Served, token: str, method: str, path: str, body: object = None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return served.client.request(method, path, json=body, headers=headers).status_code

    with serving(f"sqlite:///{tmp_path}/store.sqlite", tokens=str(tokens)) as served:
        assert asked(served, "", "GET", "/v1/items") == asked(served, "other", "GET", "/v1/items") == 401
        assert asked(served, "reader", "GET", "/v1/items") == asked(served, "boss", "GET", "/v1/items") == 200
        assert asked(served, "reader", "DELETE", "/v1/items/i0") == 403
        assert asked(served, "boss", "DELETE", "/v1/items/i0") == 204
        assert asked(served, "reader", "POST", "/v1/reload", {}) == 403
        assert [asked(served, "", "GET", path) for path in ("/health/live", "/metrics", "/openapi.json", "/")] == [
            200
        ] * 4


def test_limits_and_switches_hold(tmp_path):
    settings = {"rate": 1.0, "user_list": False, "cors_origin": "https://a.example", "client_seconds": 0.3}
    with serving(f"sqlite:///{tmp_path}/store.sqlite", **settings) as served:
        assert served.client.get("/v1/users").status_code == 404
        statuses = [served.client.get("/v1/items").status_code for _ in range(4)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        allowed = served.client.get("/version", headers={"Origin": "https://a.example"}).headers
        assert allowed["access-control-allow-origin"] == "https://a.example"
        other = served.client.get("/version", headers={"Origin": "https://b.example"}).headers
        assert "access-control-allow-origin" not in other
        address = (served.client.base_url.host, served.client.base_url.port)
        for sent in (b"", b"POST /v1/recommend HT"):  # closed without an answer
            with socket.create_connection(address, timeout=10) as slow:
                slow.sendall(sent)
                assert slow.recv(100) == b""
        time.sleep(1)
        with socket.create_connection(address, timeout=10) as slow:
            slow.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            assert b" 408 " in slow.recv(100)


def test_a_bundle_is_loaded_again_without_losing_a_request(served, monkeypatch):
    monkeypatch.setattr(services.ServedEngine, "load", lambda folder: StubEngine(name="next", seconds=0.001))
    statuses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(served.recommend(history=["i1"], user="x").status_code)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        answer = served.client.post("/v1/reload", json={"bundle": "other"})
        time.sleep(0.1)
        stop.set()
        for one in asking:
            one.result()
    assert answer.json()["bundle"]["fingerprint"] == "next" * 4
    assert set(statuses) == {200}
    assert served.recommend(history=[]).json()["bundle"]["fingerprint"] == "next" * 4
    metrics = served.client.get("/metrics").text
    assert metrics.count("genrec_recommendations_total{bundle=") == 2
    assert metrics.count("genrec_compilations{bundle=") == 1  # nothing is read from the bundle before
