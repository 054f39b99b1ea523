"""Connections to the databases of the store, and what the two kinds of database do differently."""

import contextlib
import dataclasses
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, config
from alembic.util import CommandError
from sqlalchemy import event, exc, pool

from genrec.errors import cut, shown
from genrec.serving.store.errors import StoreError, StoreUnavailable

FORMS = 'a store is "sqlite:///PATH" or "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"'
MIGRATIONS = Path(__file__).parent / "migrations"
SECONDS = 10  # that an operation waits for a lock, or for a connection
MOST_CONNECTIONS = 16  # of one process
CONNECTIONS = dict(pool_size=MOST_CONNECTIONS, max_overflow=0, pool_timeout=SECONDS)
# A host that has gone is noticed within seconds; parameters in the URL take precedence.
POSTGRESQL = dict(
    application_name="genrec",
    connect_timeout="5",
    keepalives_idle="10",
    keepalives_interval="5",
    keepalives_count="3",
    tcp_user_timeout="15000",
    options=f"-c lock_timeout={SECONDS}s -c statement_timeout=60s",
)
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
WRITES = "genrec_writes"  # execution option of connections
MIGRATION_LOCK, CHANGES_LOCK = 0x67656E01, 0x67656E02  # advisory locks of PostgreSQL


_migrating = threading.Lock()  # Alembic keeps what it works on in a module


@dataclasses.dataclass(frozen=True)
class Database:
    """A database with its connections; `name` is its URL for messages, without the password."""

    engine: sa.Engine
    name: str
    local: "LocalReader | None" = None  # of a database that is a file of this machine

    @contextlib.contextmanager
    def transaction(self, writes: bool = False) -> Iterator[sa.Connection]:
        """Yields a connection in a transaction, which is committed at the end; raises StoreUnavailable."""
        try:
            with self.engine.connect().execution_options(**{WRITES: writes}) as connection, connection.begin():
                yield connection
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """Returns the error to raise for one of the database."""
        return StoreUnavailable(f"the store {self.name} does not answer, or takes no writes: {_reason(error)}")


class LocalReader:
    """A connection to a file of SQLite, for reads so short that one thread, always the same, does not wait for others.

    It has none of the costs of a pool of connections, which are ten times those of reading a row.
    """

    def __init__(self, path: Path):
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]] | None:
        """Returns the rows of a statement that only reads; None if the file cannot be read at once."""
        try:
            file = _identity(self._path)
            if self._connection is None or self._file != file:  # of a file that was deleted or replaced
                self.close()
                self._connection, self._file = _connection(self._path, timeout=0), file
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error:
            self.close()
            return None

    def close(self) -> None:
        """Closes the connection, until the next read."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect_to(text: str) -> Database:
    """Returns the database of a URL. Connects to none, but creates the file of SQLite; raises StoreError."""
    try:
        url = sa.make_url(text)
    except exc.ArgumentError:
        raise StoreError(f"the store has no URL: {FORMS}") from None  # its text may hold a password
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return _postgresql(url.set(drivername="postgresql+psycopg"))
    raise StoreError(f"no store is of the kind {shown(url.drivername)}: {FORMS}")


def _postgresql(url: sa.URL) -> Database:
    parameters = {name: value for name, value in POSTGRESQL.items() if name not in url.query}
    engine = sa.create_engine(url, connect_args=parameters, pool_pre_ping=True, hide_parameters=True, **CONNECTIONS)

    @event.listens_for(engine, "connect")
    def acknowledge_what_is_durable(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(DURABLE)
        connection.commit()

    return Database(engine, url.set(query={}).render_as_string(hide_password=True))


def _sqlite(url: sa.URL) -> Database:
    if not url.database or url.database == ":memory:" or url.query:
        raise StoreError(f"the store of SQLite is a file, and takes no parameters: {FORMS}")
    path = Path(url.database).expanduser().absolute()
    try:
        # Histories of people are not for every user of the machine. SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"the store {path} cannot be written: {error.strerror}. Give a file in a folder.") from error

    def connect() -> sqlite3.Connection:
        connection = _connection(path, timeout=SECONDS)
        # Deleted rows are overwritten with zeros; copies may stay in the log and in unused parts of pages for a while.
        connection.executescript("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -16000;")
        return connection

    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=pool.QueuePool, hide_parameters=True, **CONNECTIONS
    )

    @event.listens_for(engine, "connect")
    def remember_the_file(_: object, record: Any) -> None:
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def reconnect_to_another_file(_: object, record: Any, __: object) -> None:
        # What is written to a file that was deleted or replaced would be lost.
        if _identity(path) != record.info["file"]:
            raise exc.InvalidatePoolError

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail where another has written in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")

    return Database(engine, f"sqlite:///{path}", LocalReader(path))


def _connection(path: Path, timeout: float) -> sqlite3.Connection:
    # Never creates a file: where it has gone, an empty one would look like a store without users.
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def migrate(database: Database) -> None:
    """Brings the tables to the newest version, also where several processes start at once.

    Raises StoreError for a database that is no store, or the store of a newer version, and StoreUnavailable.
    """
    settings = config.Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        if database.engine.dialect.name == "sqlite":
            _use_write_ahead_log(database.engine)
        with (
            _migrating,
            database.engine.connect().execution_options(**{WRITES: True}) as connection,
            connection.begin(),
        ):
            _check_encoding(connection)
            advisory_lock(connection, MIGRATION_LOCK)
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
    except CommandError as error:
        raise StoreError(
            f"the store {database.name} is of another version of genrec ({cut(str(error))}). Use that, or a new store."
        ) from error
    except (exc.DBAPIError, exc.TimeoutError, sqlite3.DatabaseError) as error:
        if _may_pass(error):
            raise database.unavailable(error) from error
        raise StoreError(
            f"{database.name} is no store of genrec, and cannot be made one: {_reason(error)}. Give an empty database."
        ) from error


def _may_pass(error: Exception) -> bool:
    """Returns whether a database that refuses to be a store may be one later: it is gone, full, or locked."""
    said = getattr(error, "orig", error)
    about_tables = getattr(said, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR  # a table is there already
    return isinstance(error, exc.OperationalError | exc.TimeoutError | sqlite3.OperationalError) and not about_tables


def _check_encoding(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise StoreError(
                f"the database of the store keeps texts in {encoding}, which lacks characters of ids. Make one with "
                "ENCODING 'UTF8'."
            )


def _use_write_ahead_log(engine: sa.Engine) -> None:
    """Switches a file of SQLite to WAL, which it stays; while another process does, SQLite refuses without waiting."""
    end = time.monotonic() + SECONDS
    with contextlib.closing(engine.raw_connection()) as connection:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.02)


def advisory_lock(connection: sa.Connection, number: int) -> None:
    """Waits until no other transaction has this lock, and takes it until the end of this one.

    In SQLite there is one transaction that writes at a time, so that it needs none.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


def _reason(error: Exception) -> str:
    """Returns the first line of what the database said."""
    said = str(getattr(error, "orig", None) or error).strip()
    return cut(said.splitlines()[0]) if said else type(error).__name__
