"""The store: events and profiles of users, and changes of the catalogue, in a database that servers share.

A write is durable when its method returns. All methods block, and may be called from many threads.
"""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from genrec.errors import shown
from genrec.serving.store import databases
from genrec.serving.store.errors import ConflictError, StoreError, StoreUnavailable
from genrec.serving.store.tables import APPENDS, CHANGES, EVENTS, PROFILES

PROFILE = sa.select(PROFILES.c.text, PROFILES.c.version).where(PROFILES.c.user_id == sa.bindparam("user"))
PROFILE_OF_SQLITE = str(PROFILE.compile(dialect=sqlite.dialect()))
LONGEST = 1000  # bytes of a user id, of an item id and of an idempotency key; indices of PostgreSQL take 2,700 in all


class Event(NamedTuple):
    """An item that a user chose, and when."""

    item_id: str
    time: int  # microseconds since 1970, UTC


class StoredProfile(NamedTuple):
    """A taste profile as JSON, and the version to give with the next write."""

    text: str
    version: int


class Known(NamedTuple):
    """Profile of a user, and their last events, oldest first."""

    profile: StoredProfile | None
    events: list[Event]


class Deleted(NamedTuple):
    """Counts of the rows that were deleted with a user."""

    events: int
    profile: bool


class Store:
    """A store; see `Store.open`."""

    def __init__(self, database: databases.Database):
        self._database = database
        # SQLite has one writer at a time, for whom others wait by asking again and again; threads need not.
        self._writer = threading.Semaphore(
            1 if database.engine.dialect.name == "sqlite" else databases.MOST_CONNECTIONS
        )

    @staticmethod
    def open(url: str) -> "Store":
        """Opens the store of "sqlite:///PATH" or "postgresql+psycopg://...", and brings its tables up to date.

        Several processes may open one at the same time. Raises StoreError for a URL that names no store, and
        StoreUnavailable where the database does not answer.
        """
        database = databases.connect_to(url)
        try:
            databases.migrate(database)
        except BaseException:
            database.engine.dispose()
            raise
        return Store(database)

    def close(self) -> None:
        """Closes all connections."""
        if self._database.local is not None:
            self._database.local.close()
        self._database.engine.dispose()

    def ping(self) -> None:
        """Raises StoreUnavailable if the database does not answer now; it may answer later."""
        with self._database.transaction() as connection:
            connection.execute(sa.select(CHANGES.c.number).limit(1))

    # Events.

    def events(self, user: str, last: int) -> list[Event]:
        """Returns the last events of a user, at most `last`, oldest first; those of the same time as they came."""
        with self._database.transaction() as connection:
            return _events(connection, _text("user id", user), last)

    def known(self, users: Mapping[str, int]) -> dict[str, Known]:
        """Returns the profile of each of several users, and their last events, at most as many as given for each."""
        ids = [_text("user id", user) for user in users]
        found = sa.select(PROFILES.c.user_id, PROFILES.c.text, PROFILES.c.version).where(PROFILES.c.user_id.in_(ids))
        with self._database.transaction() as connection:
            profiles = {user: StoredProfile(text, version) for user, text, version in connection.execute(found)}
            return {
                user: Known(profiles.get(user), _events(connection, user, last) if last > 0 else [])
                for user, last in users.items()
            }

    def profile_at_once(self, user: str) -> Known | None:
        """Returns what `known` does without events, for one thread that must not wait; None if only `known` can."""
        if self._database.local is None:
            return None
        rows = self._database.local.rows(PROFILE_OF_SQLITE, _text("user id", user))
        if rows is None:
            return None
        return Known(StoredProfile(*rows[0]) if rows else None, [])

    def append(self, user: str, events: Sequence[Event], key: str | None = None) -> int:
        """Appends events to a user's history, and returns how many the user has then.

        A repeated idempotency `key` of a user appends once; it raises ConflictError for other items than before.
        """
        rows = {user: _rows(user, events)}
        with self._writing() as connection:
            _append(connection, rows, key)
            return _count_events(connection, user)

    def append_histories(self, histories: Mapping[str, Sequence[Event]], key: str | None = None) -> int:
        """Appends events to the histories of several users, all or none, and returns how many are new.

        `key` is as in `append`, for each user.
        """
        rows = {user: _rows(user, events) for user, events in histories.items()}
        with self._writing() as connection:
            return _append(connection, rows, key)

    def users(self, first: int) -> list[tuple[str, int]]:
        """Returns the first users who have events, in the order of the database, at most `first`, and their counts."""
        found = sa.select(EVENTS.c.user_id, sa.func.count()).group_by(EVENTS.c.user_id).order_by(EVENTS.c.user_id)
        with self._database.transaction() as connection:
            return [(user, count) for user, count in connection.execute(found.limit(max(first, 0)))]

    # Profiles. A new one has the time as its version, so that no version of a deleted one returns.

    def profile(self, user: str) -> StoredProfile | None:
        """Returns the profile of a user; None if there is none."""
        with self._database.transaction() as connection:
            return _profile(connection, _text("user id", user))

    def put_profile(self, user: str, text: str, expected: int | None = None) -> int:
        """Writes the profile of a user as JSON, and returns its version.

        Where `expected` is given, raises ConflictError unless that is the version now; 0 is that of no profile.
        """
        _text("user id", user)
        with self._writing() as connection:
            if expected is None:
                return self._write_profile(connection, user, lambda _: text)
            version = _replace(connection, user, text, expected) if expected else _create(connection, user, text)
        if version is None:
            raise ConflictError(
                f"the profile of {shown(user)} was changed meanwhile. Get it, and apply the change to it."
            )
        return version

    def update_profile(self, user: str, change: Callable[[str | None], str]) -> int:
        """Writes what `change` makes of the profile (None if there is none), and returns its version.

        `change` may be called several times; of updates at the same time none is lost.
        """
        _text("user id", user)
        with self._writing() as connection:
            return self._write_profile(connection, user, change)

    def delete_profile(self, user: str) -> bool:
        """Deletes the profile of a user; returns whether there was one."""
        with self._writing() as connection:
            return _delete(connection, PROFILES, _text("user id", user)) > 0

    def delete_user(self, user: str) -> Deleted:
        """Deletes all that the store has of a user, idempotency keys too."""
        _text("user id", user)
        with self._writing() as connection:
            events, profiles, _ = (_delete(connection, table, user) for table in (EVENTS, PROFILES, APPENDS))
        return Deleted(events, profiles > 0)

    # Changes of the catalogue.

    def add_change(self, change: str) -> int:
        """Adds a change of the catalogue, and returns its number: 1, 2, ... in the order of `changes`."""
        _text("change", change, longest=None)
        with self._writing() as connection:
            # Numbers are given out under a lock until the end of the transaction: none becomes visible after a larger.
            databases.advisory_lock(connection, databases.CHANGES_LOCK)
            number = sa.select(sa.func.coalesce(sa.func.max(CHANGES.c.number), 0) + 1).scalar_subquery()
            adding = sa.insert(CHANGES).values(number=number, change=change).returning(CHANGES.c.number)
            return connection.execute(adding).scalar_one()

    def changes(self, after: int) -> list[tuple[int, str]]:
        """Returns number and text of all changes after a number, in order; 0 gives those from the start."""
        later = sa.select(CHANGES.c.number, CHANGES.c.change).where(CHANGES.c.number > after).order_by(CHANGES.c.number)
        with self._database.transaction() as connection:
            return [(number, change) for number, change in connection.execute(later)]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if not self._writer.acquire(timeout=databases.SECONDS):
            raise StoreUnavailable(f"the store {self._database.name} has too many writers at a time. Try again later.")
        try:
            with self._database.transaction(writes=True) as connection:
                yield connection
        finally:
            self._writer.release()

    def _write_profile(self, connection: sa.Connection, user: str, change: Callable[[str | None], str]) -> int:
        version = None
        while version is None:
            found = _profile(connection, user, lock=True)
            if found is None:  # nothing to lock: another process may create it first
                version = _create(connection, user, change(None))
            else:
                version = _replace(connection, user, change(found.text), found.version)
        return version


def _events(connection: sa.Connection, user: str, last: int) -> list[Event]:
    newest = sa.select(EVENTS.c.item_id, EVENTS.c.time).where(EVENTS.c.user_id == user)
    newest = newest.order_by(EVENTS.c.time.desc(), EVENTS.c.number.desc()).limit(max(last, 0))
    return [Event(item_id, time) for item_id, time in reversed(connection.execute(newest).all())]


def _append(connection: sa.Connection, rows: dict[str, list[dict[str, object]]], key: str | None) -> int:
    if key is not None:
        rows = _first_uses(connection, rows, _text("idempotency key", key))
    new = [row for of_user in rows.values() for row in of_user]
    if new:
        _insert_events(connection, new)
    return len(new)


def _insert_events(connection: sa.Connection, rows: Sequence[Mapping[str, object]]) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(sa.insert(EVENTS), rows)
        return
    # PostgreSQL takes columns as arrays three times as quickly as it takes rows.
    columns = [EVENTS.c[name] for name in rows[0]]
    arrays = (sa.literal([row[c.name] for row in rows], postgresql.ARRAY(c.type)) for c in columns)
    table = sa.func.unnest(*arrays).table_valued(*(c.name for c in columns)).render_derived()
    connection.execute(sa.insert(EVENTS).from_select(columns, sa.select(*table.c)))


def _first_uses(
    connection: sa.Connection, rows: dict[str, list[dict[str, object]]], key: str
) -> dict[str, list[dict[str, object]]]:
    """Records a key for users, and returns the rows of those who have not used it before."""
    digests = {user: _digest(of_user) for user, of_user in rows.items()}
    records = [{"user_id": user, "key": key, "digest": digests[user]} for user in digests]
    adding = _insert(connection, APPENDS).on_conflict_do_nothing().returning(APPENDS.c.user_id)
    first = set(connection.execute(adding, records).scalars())
    repeated = [user for user in rows if user not in first]
    known = sa.select(APPENDS.c.user_id, APPENDS.c.digest).where(APPENDS.c.key == key, APPENDS.c.user_id.in_(repeated))
    for user, digest in connection.execute(known) if repeated else ():
        if digest != digests[user]:
            raise ConflictError(
                f"the key {shown(key)} of {shown(user)} was used for other events. Use a new key for each."
            )
    return {user: rows[user] for user in rows if user in first}


def _count_events(connection: sa.Connection, user: str) -> int:
    count = sa.select(sa.func.count()).select_from(EVENTS).where(EVENTS.c.user_id == user)
    return connection.execute(count).scalar_one()


def _profile(connection: sa.Connection, user: str, lock: bool = False) -> StoredProfile | None:
    row = connection.execute(PROFILE.with_for_update() if lock else PROFILE, {"user": user}).one_or_none()
    return None if row is None else StoredProfile(row.text, row.version)


def _create(connection: sa.Connection, user: str, text: str) -> int | None:
    """Creates a profile and returns its version; None if there is one."""
    adding = _insert(connection, PROFILES).values(user_id=user, text=_json(text), version=time.time_ns() // 1000)
    return connection.execute(adding.on_conflict_do_nothing().returning(PROFILES.c.version)).scalar_one_or_none()


def _replace(connection: sa.Connection, user: str, text: str, version: int) -> int | None:
    """Replaces a profile and returns its new version; None if it is not of the version given."""
    changing = sa.update(PROFILES).where(PROFILES.c.user_id == user, PROFILES.c.version == version)
    changing = changing.values(text=_json(text), version=PROFILES.c.version + 1)
    return connection.execute(changing.returning(PROFILES.c.version)).scalar_one_or_none()


def _delete(connection: sa.Connection, table: sa.Table, user: str) -> int:
    return connection.execute(sa.delete(table).where(table.c.user_id == user)).rowcount


def _insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _rows(user: str, events: Sequence[Event]) -> list[dict[str, object]]:
    _text("user id", user)
    for event in events:
        if not -(2**63) <= event.time < 2**63:
            raise StoreError(f"the time {shown(event.time)} of an event is no number of microseconds in 64 bits")
    return [{"user_id": user, "time": event.time, "item_id": _text("item id", event.item_id)} for event in events]


def _digest(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns a digest of the item ids alone: a server fills in the times of events that come without."""
    return hashlib.sha256(json.dumps([row["item_id"] for row in rows]).encode()).hexdigest()


def _json(text: str) -> str:
    return _text("profile", text, longest=None)


def _text(name: str, value: str, longest: int | None = LONGEST) -> str:
    """Returns a text that both databases take; raises StoreError otherwise."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise StoreError(f"the {name} {shown(value)} is no UTF-8 text") from None
    if "\0" in value or not value:
        raise StoreError(f"the {name} {shown(value)} is empty, or has a character of code 0")
    if longest is not None and size > longest:
        raise StoreError(f"the {name} {shown(value)} has {size:,} bytes, more than {longest:,}")
    return value
