"""Databases are migrated once, by whoever comes first; what is no store is refused, and says no password."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from genrec.serving.store import databases
from genrec.serving.store.errors import StoreError, StoreUnavailable
from genrec.serving.store.store import Event, Store
from genrec.serving.store.tables import METADATA

WRITER = Path(__file__).parents[2] / "store_writer.py"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    named = {"sqlite": lambda: f"sqlite:///{tmp_path}/store.db"}
    return named.get(request.param, lambda: request.getfixturevalue("postgresql_database"))()


def test_migrations_make_the_tables_that_the_code_has(url):
    Store.open(url).close()
    database = databases.connect_to(url)
    with database.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.engine.dispose()


def test_processes_that_start_at_once_make_one_store(url):
    names = ("a", "b", "c")
    writers = [
        subprocess.Popen([sys.executable, str(WRITER), url, "events", name, "3"], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    assert [writer.communicate()[1] for writer in writers] == ["", "", ""]
    store = Store.open(url)
    assert [len(store.events(name, 10)) for name in names] == [3, 3, 3]
    store.close()


def test_a_store_of_a_newer_version_is_refused(url):
    store = Store.open(url)
    store.append("u", [Event("a", 1)])
    store.close()
    database = databases.connect_to(url)
    with database.transaction(writes=True) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'later'")
    with pytest.raises(StoreError, match="another version"):
        Store.open(url)
    with database.transaction(writes=True) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.engine.dispose()
    store = Store.open(url)
    assert store.events("u", 5) == [Event("a", 1)]
    store.close()


def test_a_database_of_something_else_is_refused(url):
    database = databases.connect_to(url)
    with database.transaction(writes=True) as connection:
        connection.exec_driver_sql("CREATE TABLE events (concert TEXT)")
    database.engine.dispose()
    with pytest.raises(StoreError, match="no store of genrec"):
        Store.open(url)


def test_writes_are_durable(url, postgresql_server):
    if url.startswith("sqlite"):
        Store.open(url).close()
        settings = {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2, "PRAGMA secure_delete": 1}
    else:
        name = url.partition("@/")[2].partition("?")[0]
        postgresql_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        settings = {"SHOW synchronous_commit": "on"}
    database = databases.connect_to(url)
    with database.transaction() as connection:
        assert {question: connection.exec_driver_sql(question).scalar_one() for question in settings} == settings
    database.engine.dispose()


def test_what_is_no_store_is_refused(tmp_path, postgresql_server):
    (tmp_path / "notes.txt").write_text("no database " * 100)
    (tmp_path / "folder").mkdir()
    postgresql_server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    refused = {
        f"sqlite:///{tmp_path}/notes.txt": "not a database",
        f"sqlite:///{tmp_path}/folder": "directory",
        f"sqlite:///{tmp_path}/nowhere/store.db": "No such file",
        f"sqlite:///{tmp_path}/store.db?mode=memory": "parameters",
        "sqlite://": "file",
        "sqlite:///:memory:": "file",
        "mysql://u:secret@host/store": "mysql",
        "u:secret@host/store": "URL",
        str(tmp_path / "store.db"): "URL",
        postgresql_server.url("latin"): "LATIN1",
    }
    for url, reason in refused.items():
        with pytest.raises(StoreError, match=reason) as error:
            Store.open(url)
        assert "secret" not in str(error.value)
        assert not isinstance(error.value, StoreUnavailable)


def test_a_database_that_is_not_there_may_come(postgresql_server, tmp_path):
    for url in (postgresql_server.url("unknown"), f"postgresql://u:secret@/d?host={tmp_path}&password=secret"):
        with pytest.raises(StoreUnavailable) as error:
            Store.open(url)
        assert "secret" not in str(error.value)


def test_a_file_is_for_its_owner_and_is_never_made_again(tmp_path):
    file = tmp_path / "store.db"
    store = Store.open(f"sqlite:///{file}")
    store.append("u", [Event("a", 1)])
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.unlink()
    with pytest.raises(StoreUnavailable):
        store.append("u", [Event("b", 2)])
    assert store.profile_at_once("u") is None
    assert not file.exists()
    store.close()


def test_a_file_that_was_replaced_is_opened(tmp_path):
    first, second = (Store.open(f"sqlite:///{tmp_path}/{name}.db") for name in ("first", "second"))
    second.append("u", [Event("restored", 1)])
    second.put_profile("u", "[]")
    second.close()
    first.append("u", [Event("old", 1)])
    first.close()
    first.events("u", 1)
    assert first.profile_at_once("u").profile is None
    (tmp_path / "second.db").replace(tmp_path / "first.db")
    assert first.events("u", 5) == [Event("restored", 1)]
    assert first.profile_at_once("u").profile.text == "[]"
    first.close()
    other = sqlite3.connect(tmp_path / "first.db")
    assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)
    other.close()
