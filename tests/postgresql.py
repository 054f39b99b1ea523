"""A PostgreSQL server of the distribution for tests: in a temporary folder, on a socket there, and without a port."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the machine does not crash
    "shared_buffers": "16MB",
    "log_min_messages": "fatal",
}


def program(name: str) -> str:
    """Returns the path of a program of the newest PostgreSQL that the distribution has installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which(name, path=str(folders[-1])) if folders else shutil.which(name)
    assert found, "no PostgreSQL: launch/test.sh installs it"
    return found


class Server:
    """A server that can be stopped and started again; `url(database)` is for a store."""

    def __init__(self, folder: Path):
        # It refuses to run as root, as containers do.
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = folder
        if self._user:
            shutil.chown(folder, self._user)
        command = [program("initdb"), "--pgdata", str(folder / "data"), "--username=tests", "--auth=trust", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=folder)
        self.start()

    def start(self) -> None:
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [program("postgres"), "-D", str(self._folder / "data"), "-k", str(self._folder), *settings]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self._folder)
        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._parameters("postgres")).close()
                return
            except psycopg.OperationalError:
                alive = self._process.poll() is None and time.monotonic() < end
                assert alive, (self._folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """Stops the server at once, with all its connections."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self._parameters(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tests@/{database}?host={self._folder}"

    def _parameters(self, database: str) -> str:
        return f"host={self._folder} user=tests dbname={database}"


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Yields a server with no database, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="genrec_postgresql_", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.stop()
