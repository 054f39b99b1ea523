"""Load tests of a stand-in for the server, whose behavior is known."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from stand_in_server import StandIn

from genrec.data.dataset import Catalogue, Sequence
from genrec.serving.load import client, load_test, mix, phases, tally

ITEMS = [f"i{number:02}" for number in range(40)]


class Split:
    def __init__(self, histories: list[list[int]]):
        self._sequences = [
            Sequence(f"u{user}", np.array(items, np.int32), np.arange(len(items)))
            for user, items in enumerate(histories)
        ]
        self.lengths = np.array([len(items) for items in histories])

    def read(self, rows):
        return [self._sequences[row] for row in rows]


@pytest.fixture(scope="module")
def dataset():
    table = pa.table(
        {
            "item_id": ITEMS,
            "source_row": np.arange(40),
            "title": [f"Title {item}" for item in ITEMS],
            "kind": ["song", "book"] * 20,
            "genres": [["a, b", "c"], ["d"]] * 20,
            "joined": ["x|y", "z"] * 20,
            "explicit": [True, False] * 20,
            "empty": [None, *["often"] * 20, *["other"] * 19],
            "vector": [[0.0]] * 40,
        }
    )
    random = np.random.default_rng(0)
    splits = {
        "test": Split([[3], *(random.integers(0, 40, size).tolist() for size in range(2, 70))]),
        "none": Split([[1]]),
    }
    return SimpleNamespace(catalogue=Catalogue(table, ("title",)), split=splits.__getitem__)


@pytest.fixture
def source(dataset):
    return lambda **settings: mix.RequestSource(dataset, "test", mix.Mix(**settings))


def run(dataset, source, url: str, token: str = "", **plan) -> dict:
    test = load_test.LoadTest(client.Client(url, token), source)
    test.run(load_test.Plan(**plan), dataset, lambda: np.zeros((40, 3), np.float32))
    return test.results


def offered(source, url: str, rate: float = 200, seconds: float = 0.5) -> tally.Tally:
    return phases.run(phases.open_loop(client.Client(url), source, rate, seconds))


def test_requests_are_histories_of_users_in_the_given_shares(source, dataset):
    drawn = source(filters=0.5, prompts=0.25, exclude_history=0.75, top=7)
    draws = [drawn.draw() for _ in range(2000)]
    for draw in draws[:100]:
        before = [ITEMS[item] for item in draw.sequence.items[: draw.events]]
        assert draw.request["history"] == before[-mix.ITEMS :] and 1 <= draw.events < len(draw.sequence.items)
        assert draw.request["user"] == draw.sequence.user_id and draw.request["top"] == 7
    shares = {name: np.mean([bool(draw.request.get(name)) for draw in draws]) for name in ("filters", "prompt")}
    assert shares["filters"] == pytest.approx(0.5, abs=0.05) and shares["prompt"] == pytest.approx(0.25, abs=0.05)
    assert np.mean([draw.request["exclude_history"] for draw in draws]) == pytest.approx(0.75, abs=0.05)
    again = source(filters=0.5, prompts=0.25, exclude_history=0.75, top=7)
    assert [again.draw().request for _ in range(2000)] == [draw.request for draw in draws]


def test_filters_name_frequent_values_that_a_filter_can_write(dataset):
    found = mix.column_values(dataset.catalogue)
    assert found == [
        ("empty", "=", "often"),
        ("empty", "=", "other"),
        ("explicit", "=", "False"),
        ("explicit", "=", "True"),
        ("genres", "~", "c"),
        ("genres", "~", "d"),
        ("kind", "=", "book"),
        ("kind", "=", "song"),
    ]


def test_a_user_comes_back_with_one_more_event(source):
    drawn = source(returning=1.0)
    first = drawn.draw()
    while first.events + 1 >= len(first.sequence.items):
        first = drawn.draw()
    assert not first.returning
    drawn.answered(first)
    second = drawn.draw()
    assert second.returning and second.sequence is first.sequence and second.events == first.events + 1
    assert second.request["history"][:-1] == first.request["history"][-mix.ITEMS + 1 :]
    assert not drawn.draw().returning  # nobody else was answered


def test_arrivals_have_the_rate_and_do_not_wait_for_answers(source):
    with StandIn(ITEMS, seconds=0.3).running() as server:
        found = offered(source(), server.url, rate=300, seconds=1)
    assert found.offered == len(found.answered) == len(server.asked)
    assert found.offered == pytest.approx(300, abs=4 * np.sqrt(300))
    assert min(found.answered) >= 0.3 and not found.errors
    # A closed loop of one connection would have had three answers.
    assert found.within > 10 and server.connections > 50


def test_connections_are_used_again(source):
    with StandIn(ITEMS).running() as server:
        found = phases.run(phases.one_by_one(client.Client(server.url), source(), 20))
    assert len(found.answered) == 20 and server.connections == 1
    with StandIn(ITEMS, closes=True).running() as server:
        found = phases.run(phases.one_by_one(client.Client(server.url), source(), 5))
    assert len(found.answered) == 5 and server.connections == 5


def test_rejected_and_late_requests_are_no_errors_and_broken_ones_are(source):
    with StandIn(ITEMS, seconds=0.2, at_once=2).running() as server:
        found = offered(source(), server.url)
    assert found.rejected and found.answered and not found.errors
    assert len(found.rejected) + len(found.answered) == found.offered
    with StandIn(ITEMS, seconds=0.2, at_once=2, retry_after=False).running() as server:
        found = offered(source(), server.url)
    assert sum(found.errors.values()) == len(found.rejected) > 0
    with StandIn(ITEMS, problem={"status": 504, "detail": "late"}).running() as server:
        found = offered(source(), server.url)
    assert len(found.late) == found.offered and not found.errors
    with StandIn(ITEMS, problem={"status": 422, "detail": "no column kind"}).running() as server:
        found = offered(source(), server.url)
    assert dict(found.errors) == {"422 no column kind": found.offered}
    with StandIn(ITEMS, breaks=True).running() as server:
        found = offered(source(), server.url)
    assert sum(found.errors.values()) == found.offered


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        (client.Answer(0, b"", {}, "refused"), 0, "refused"),
        (client.Answer(500, b"<html>", {}), 500, "500"),
        (client.Answer(200, b"[]", {}), 200, "one result"),
        (client.Answer(200, b'{"results": [{}]}', {}), 200, "list"),
        (client.Answer(503, b'{"detail": "full"}', {}), 503, "full"),
    ],
)
def test_answers_that_are_no_lists(answer, status, word):
    found = tally.outcome(answer)
    assert found[0] == status and word in found[1]


def test_the_saturation_is_found(dataset, source):
    # 4 at once, 20 ms each: at most 200 per second.
    with StandIn(ITEMS, seconds=0.02, at_once=4).running() as server:
        results = run(dataset, source(), server.url, rates=(20.0,), seconds=0.3, find_saturation=True)
    found = results["saturation"]
    assert 0 < found["completed_per_second"] <= 220
    assert found["half"]["rate"] == pytest.approx(found["completed_per_second"] / 2, rel=0.01)
    assert found["double"]["rejected"] > 0 and results["phases"][0]["rate"] == 20
    assert results["server_metrics"]["after"] == {
        "process_resident_memory_bytes": 1.5e8,
        "genrec_compilations_total": 12.0,
    }
    lines = load_test.table(json.loads(json.dumps(results))).splitlines()
    assert len(lines) >= len(results["phases"]) + 3
    load_test.check(results)


@pytest.mark.parametrize("forgets", [False, True])
def test_items_that_are_returned_after_their_removal_are_found(dataset, source, forgets):
    with StandIn([*ITEMS], forgets_removals=forgets, token="secret").running() as server:
        results = run(
            dataset, source(), server.url, "secret", rates=(300.0,), seconds=0.3, changes=120, change_rate=200.0
        )
    found = results["changes"]
    assert found["made"] >= 120 and {"add_ms", "remove_ms", "change_ms"} <= found.keys() and not found["errors"]
    assert (found["returned_after_removal"] > 0) == forgets
    assert server.removed.isdisjoint(ITEMS)  # restored
    assert {item for item in server.items if item.startswith("load-test-")} <= server.removed
    if forgets:
        with pytest.raises(client.LoadTestError, match="errors"):
            load_test.check(results)
    else:
        load_test.check(results)


def test_served_and_searched_requests_are_compared_in_turn(source):
    with StandIn(ITEMS, seconds=0.02).running() as server:
        test = load_test.LoadTest(client.Client(server.url), source())
        test.compare(load_test.Plan(seconds=0.2), lambda seconds: {"1": 50.0, "4": 800.0}, clients=8)
    found = test.results["in_process"]
    assert found["searched_per_second"] == {"1": 50.0, "4": 800.0}
    assert found["share"] == pytest.approx(found["served_per_second"] / 800, abs=0.001)
    assert 0 < found["served_per_second"] <= 8 / 0.02 * 1.05  # clients by seconds of an answer


def test_what_cannot_be_measured_is_refused(dataset, source):
    with pytest.raises(client.LoadTestError, match="two items"):
        mix.RequestSource(dataset, "none", mix.Mix())
    with pytest.raises(client.LoadTestError, match="serve.py"):
        run(dataset, source(), "http://127.0.0.1:1")
    with StandIn(ITEMS, ready=False).running() as server, pytest.raises(client.LoadTestError, match="503"):
        run(dataset, source(), server.url)
    with (
        StandIn(ITEMS, problem={"status": 422, "detail": "no prompts"}).running() as server,
        pytest.raises(client.LoadTestError, match="no prompts"),
    ):
        run(dataset, source(), server.url)
    with StandIn(ITEMS, token="secret").running() as server, pytest.raises(client.LoadTestError, match="--token_file"):
        run(dataset, source(), server.url, changes=10, seconds=0.1)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:port", ""])
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(client.LoadTestError, match="--url"):
        client.Client(url)


def test_the_token_of_an_administrator_is_taken(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# tokens\nreader\nwriter admin\n")
    assert client.read_token(str(path)) == "writer" and client.read_token(None) == ""
    path.write_text("reader\n")
    assert client.read_token(str(path)) == "reader"
    path.write_text("\n")
    for wrong in (path, tmp_path / "none"):
        with pytest.raises(client.LoadTestError, match="--token_file"):
            client.read_token(str(wrong))
