"""Faults of a store's database: it is gone, or its disk is full."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

FULL_DISK = """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT ON changes EXECUTE FUNCTION full_disk();"""
PAGES = 14  # of a file of SQLite with a few rows


def leaving(url: str, request: pytest.FixtureRequest) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns functions that take a store away and bring it back."""
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///"))
        aside = file.with_suffix(".aside")
        return lambda: file.rename(aside), lambda: aside.rename(file)
    server = request.getfixturevalue("postgresql_server")
    return server.stop, server.start


def fill_disk(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets a store that has its tables refuse rows as on a full disk; returns a function that ends this.

    To be called before the store is opened: files of SQLite grow to PAGES.
    """
    if url.startswith("sqlite"):
        return _limit_pages(monkeypatch)
    parameters = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(parameters) as connection:
        connection.execute(FULL_DISK)

    def free() -> None:
        with psycopg.connect(parameters) as connection:
            connection.execute("DROP FUNCTION full_disk CASCADE")

    return free


def _limit_pages(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    connect, connections = sqlite3.connect, []

    def limited(*args, **kwargs) -> sqlite3.Connection:
        connections.append(connect(*args, **kwargs))
        connections[-1].execute(f"PRAGMA max_page_count = {PAGES}")
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", limited)

    def free() -> None:
        for connection in connections:
            connection.execute("PRAGMA max_page_count = 1000000")

    return free
