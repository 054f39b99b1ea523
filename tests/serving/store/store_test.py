"""SQLite and PostgreSQL alike keep what they acknowledged, in order, whoever else writes."""

import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import store_faults

from genrec.serving.store import databases
from genrec.serving.store.errors import ConflictError, StoreError, StoreUnavailable
from genrec.serving.store.store import Deleted, Event, Store

WRITER = Path(__file__).parents[2] / "store_writer.py"
ODD = "ü/ 'user'; DROP TABLE events; -- 🎧"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    return request.getfixturevalue("postgresql_database") if request.param == "postgresql" else sqlite_url(tmp_path)


@pytest.fixture
def store(url) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.close()


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/store with space?.db".replace("?", "%")


def start_writer(url: str, kind: str, name: str, count: int) -> subprocess.Popen:
    command = [sys.executable, str(WRITER), url, kind, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def at_once(function: Callable[[int], object], times: int) -> list[object]:
    """Calls a function from many threads, which start together."""
    start = threading.Barrier(times)

    def call(number: int) -> object:
        start.wait()
        return function(number)

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(call, range(times)))


def items(store: Store, user: str, last: int = 1000) -> list[str]:
    return [event.item_id for event in store.events(user, last)]


def test_events_are_in_the_order_of_time_and_then_as_they_came(store):
    assert store.append(ODD, [Event("b", 20), Event("c", 20)]) == 2
    assert store.append("other", [Event("x", 15)]) == 1
    assert store.append(ODD, [Event("d", 20), Event("a", -10)]) == 4
    assert store.events(ODD, 10) == [Event("a", -10), Event("b", 20), Event("c", 20), Event("d", 20)]
    assert items(store, ODD, 2) == ["c", "d"]
    assert store.events(ODD, 0) == store.events("unknown", 5) == []
    assert dict(store.users(10)) == {ODD: 4, "other": 1}
    assert len(store.users(1)) == 1


def test_a_key_appends_once_and_belongs_to_its_user(store):
    assert store.append("u", [Event("a", 1)], "key") == 1
    assert store.append("u", [Event("a", 2)], "key") == 1  # sent again, with the time of then
    assert store.append("v", [Event("a", 1)], "key") == 1
    with pytest.raises(ConflictError, match="other events"):
        store.append("u", [Event("b", 1)], "key")
    assert store.append("u", [Event("b", 1)], "second key") == 2


def test_a_key_appends_once_from_many_threads(store):
    assert at_once(lambda _: store.append("u", [Event("a", 1), Event("b", 2)], "key"), 10) == [2] * 10
    assert items(store, "u") == ["a", "b"]


def test_histories_are_appended_together_and_once(store):
    assert store.append_histories({"u": [Event("a", 1)], "v": [Event("b", 1), Event("c", 2)]}, "import") == 3
    assert store.append_histories({"v": [Event("b", 1), Event("c", 2)], "w": [Event("d", 1)], "x": []}, "import") == 1
    assert [items(store, user) for user in "uvwx"] == [["a"], ["b", "c"], ["d"], []]
    with pytest.raises(StoreError):
        store.append_histories({"y": [Event("a", 1)], "z": [Event("\0", 1)]})
    assert items(store, "y") == []


def test_a_profile_is_replaced_only_by_who_knows_it(store):
    assert store.profile("u") is None
    first = store.put_profile("u", "{}", 0)
    second = store.put_profile("u", '{"ü": 1}', first)
    assert store.profile("u") == ('{"ü": 1}', second)
    for outdated in (0, first, second + 1):
        with pytest.raises(ConflictError):
            store.put_profile("u", "{}", outdated)
    assert store.profile("u") == ('{"ü": 1}', second)
    assert store.put_profile("u", "[]", None) > second
    assert store.put_profile("v", "[]", None) > 0


def test_a_profile_is_read_at_once_as_it_is_otherwise_or_not_at_all(store, url):
    is_file = url.startswith("sqlite")
    for change in (lambda: None, lambda: store.put_profile("u", "{}"), lambda: store.delete_profile("u")):
        change()
        assert store.profile_at_once("u") == (store.known({"u": 0})["u"] if is_file else None)
    if is_file:
        with pytest.raises(StoreError):
            store.profile_at_once("\0")


def test_the_version_of_a_deleted_profile_never_returns(store):
    version = store.put_profile("u", "{}", 0)
    assert store.delete_profile("u")
    assert not store.delete_profile("u")
    with pytest.raises(ConflictError):
        store.put_profile("u", "{}", version)
    store.put_profile("u", "{}", 0)
    with pytest.raises(ConflictError):
        store.put_profile("u", "{}", version)


def test_a_hundred_concurrent_updates_of_a_profile_lose_none(store, url):
    second = Store.open(url)  # as another server has it

    def add(number: int) -> int:
        one = store if number % 2 else second
        return one.update_profile("u", lambda text: f"{text or ''}{number},")

    versions = at_once(add, 100)
    second.close()
    text, version = store.profile("u")
    assert sorted(map(int, text.rstrip(",").split(","))) == list(range(100))
    assert len(set(versions)) == 100
    assert max(versions) == version


def test_a_change_that_fails_writes_nothing_and_holds_nothing(store):
    store.put_profile("u", "{}")
    with pytest.raises(ZeroDivisionError):
        store.update_profile("u", lambda text: str(1 // 0))
    assert store.profile("u").text == "{}"
    store.update_profile("u", lambda text: text + "x")
    assert store.profile("u").text == "{}x"


def test_changes_are_read_whole_and_in_order_while_others_write(store, url):
    second, read, done = Store.open(url), [], threading.Event()

    def follow() -> None:
        while not done.is_set() or store.changes(read[-1][0] if read else 0):
            read.extend(store.changes(read[-1][0] if read else 0))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        numbers = at_once(lambda k: [(second if k % 2 else store).add_change(f"{k} {n}") for n in range(10)], 8)
    finally:
        done.set()
        follower.join()
        second.close()
    assert [number for number, _ in read] == list(range(1, 81))
    assert read == store.changes(0)
    assert store.changes(78) == read[78:]
    for writer, own in enumerate(numbers):
        assert own == sorted(own)
        assert [read[number - 1][1] for number in own] == [f"{writer} {n}" for n in range(10)]


def test_two_processes_write_to_one_store(store, url):
    writers = [start_writer(url, kind, name, 20) for kind, name in (("events", "a"), ("changes", "b"))]
    counts = [store.append("a", [Event(f"own {number}", 1000)]) for number in range(20)]
    numbers = [store.add_change("own") for _ in range(20)]
    assert [writer.wait() for writer in writers] == [0, 0], [writer.stderr.read() for writer in writers]
    assert counts == sorted(counts)
    assert numbers == sorted(numbers)
    assert items(store, "a") == [f"a {number}" for number in range(20)] + [f"own {number}" for number in range(20)]
    assert [text for _, text in store.changes(0) if text != "own"] == [f"b {number}" for number in range(20)]


@pytest.mark.parametrize("kind", ["events", "changes"])
def test_what_was_acknowledged_survives_a_kill_of_the_writer(url, kind):
    writer = start_writer(url, kind, "u", 1_000_000)
    seen = [writer.stdout.readline() for _ in range(30)]
    writer.kill()
    acknowledged = len(seen) + len(writer.stdout.readlines())
    store = Store.open(url)
    kept = items(store, "u", 1_000_000) if kind == "events" else [text for _, text in store.changes(0)]
    assert seen[0] == "0\n", writer.stderr.read()
    assert kept in [[f"u {number}" for number in range(acknowledged + last)] for last in (0, 1)]
    assert store.append("u", [Event("after", 2**40)]) == 1 + (len(kept) if kind == "events" else 0)
    store.close()


def test_a_deleted_user_leaves_nothing(store, url):
    store.append_histories({user: [Event(f"of {user}", n) for n in range(300)] for user in ("stays", "leaves")}, "key")
    for user in ("stays", "leaves"):
        store.put_profile(user, f'{{"user": "{user}"}}')
    store.append("leaves", [Event("of leaves", 1)], "leaves today")
    assert store.delete_user("leaves") == Deleted(301, True)
    assert store.delete_user("leaves") == Deleted(0, False)
    assert "leaves" not in dump(url)
    assert "stays" in dump(url)
    assert items(store, "stays") == ["of stays"] * 300
    assert store.append("leaves", [Event("a", 1)], "key") == 1


def dump(url: str) -> str:
    """Returns all rows of all tables."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [connection.exec_driver_sql(f"SELECT * FROM {t}").all() for t in sa.inspect(engine).get_table_names()]
    engine.dispose()
    return repr(rows)


@pytest.mark.parametrize("user", ["", "a\0b", "\udcff", "x" * 1001])
def test_ids_that_no_database_keeps_are_refused(store, user):
    attempts = [
        lambda: store.append(user, [Event("a", 1)]),
        lambda: store.append("u", [Event(user, 1)]),
        lambda: store.append("u", [Event("a", 1)], user),
        lambda: store.events(user, 1),
        lambda: store.put_profile(user, "{}"),
        lambda: store.update_profile(user, lambda _: "{}"),
        lambda: store.delete_user(user),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError) as refused:
            attempt()
        assert not isinstance(refused.value, StoreUnavailable)
    assert store.events("u", 5) == []


def test_times_that_no_database_keeps_are_refused(store):
    assert store.append("u", [Event("a", 2**63 - 1), Event("b", -(2**63))]) == 2
    with pytest.raises(StoreError, match="64 bits"):
        store.append("u", [Event("a", 2**63)])


def test_ids_as_long_as_allowed_are_kept(store):
    longest = "ü" * 500
    assert store.append(longest, [Event(longest, 1)], longest) == 1
    assert items(store, longest) == [longest]


def refuses(store: Store) -> None:
    """Checks that the store takes no writes, and that nothing else goes wrong."""
    for write in (lambda: store.append("u", [Event("lost", 5)]), lambda: store.add_change("lost" * 2000)):
        with pytest.raises(StoreUnavailable):
            write()


def test_a_store_that_was_gone_comes_back(store, url, request):
    leave, come_back = store_faults.leaving(url, request)
    store.append("u", [Event("before", 1)])
    leave()
    try:
        refuses(store)
        for read in (store.ping, lambda: store.events("u", 5), lambda: store.profile("u"), lambda: store.changes(0)):
            with pytest.raises(StoreUnavailable):
                read()
    finally:
        come_back()
    store.ping()
    assert store.append("u", [Event("after", 10)]) == 2
    assert items(store, "u") == ["before", "after"]
    assert store.changes(0) == []


def test_a_full_disk_refuses_writes_and_loses_nothing(url, monkeypatch):
    Store.open(url).close()
    free = store_faults.fill_disk(url, monkeypatch)
    store = Store.open(url)
    with pytest.raises(StoreUnavailable, match="full|space"):
        for number in range(1000):
            store.append("u", [Event(f"{number}" * 200, number)])
    kept = items(store, "u")
    with pytest.raises(StoreUnavailable, match="full|space") as error:
        store.add_change(str(123) * 5000)
    assert "123123" not in "".join(traceback.format_exception(error.value))  # logs are not for what users do
    store.ping()
    assert kept == [f"{number}" * 200 for number in range(len(kept))]
    free()
    assert store.append("u", [Event("after", 2000)]) == len(kept) + 1
    assert store.add_change("after" * 5000) == 1
    store.close()


def test_a_locked_store_refuses_writes_and_can_be_read(url, monkeypatch):
    monkeypatch.setattr(databases, "SECONDS", 0.1)
    store = Store.open(url if url.startswith("sqlite") else f"{url}&options=-c%20lock_timeout%3D100ms")
    store.append("u", [Event("a", 1)])
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        other = psycopg.connect(url.replace("postgresql+psycopg", "postgresql"))
        other.execute("LOCK TABLE events, changes IN EXCLUSIVE MODE")
    refuses(store)
    assert items(store, "u") == ["a"]
    other.rollback()
    other.close()
    assert store.append("u", [Event("b", 2)]) == 2
    store.close()
