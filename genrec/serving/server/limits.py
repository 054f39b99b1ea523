"""Who may ask, and how often: bearer tokens, and a rate for each client."""

import collections
import hashlib
import time
from collections.abc import Mapping

from etils import epath

from genrec.config import ConfigError
from genrec.serving.server.problems import ProblemError

MOST_CLIENTS = 10_000  # whose rates are kept; the one that was quiet the longest is forgotten
BURST = 2.0  # seconds of its rate that a client may use at once


class Tokens:
    """The tokens of a file with one on each line, after it "admin" if it may change the catalogue and the server."""

    def __init__(self, path: str | None):
        """Reads the file; without one, everybody may do everything. Raises ConfigError if it cannot be used."""
        self._path = path
        self._admins: Mapping[bytes, bool] = {}
        self.read()

    def read(self) -> None:
        """Reads the file again; raises ConfigError, and keeps the tokens as they were, if that is not possible."""
        if self._path is None:
            return
        try:
            lines = epath.Path(self._path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is no text" if isinstance(error, UnicodeDecodeError) else error.strerror
            raise ConfigError(f"--token_file={self._path}: cannot be read ({reason})") from error
        found = {}
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[1:] not in ([], ["admin"]) or not words[0].isascii():
                raise ConfigError(
                    f"--token_file={self._path}, line {number}: write a token of ASCII characters, and after "
                    'it "admin" or nothing'
                )
            found[_digest(words[0].encode())] = len(words) == 2
        if not found:
            raise ConfigError(f"--token_file={self._path}: there is no token in it. Write one on each line.")
        self._admins = found

    def check(self, authorization: bytes, admin: bool) -> str:
        """Returns a name of the client, "" without tokens; raises ProblemError if it may not do what it asks for."""
        if self._path is None:
            return ""
        scheme, _, token = authorization.partition(b" ")
        digest = _digest(token.strip())  # the time of a look-up tells nothing of the token
        if scheme.lower() != b"bearer" or digest not in self._admins:
            raise ProblemError(401, "give a token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if admin and not self._admins[digest]:
            raise ProblemError(403, "this token may not do that: it needs one of an administrator")
        return digest.hex()[:12]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class Rate:
    """A number of requests per second for each client, with a burst (token bucket)."""

    def __init__(self, rate: float):
        """`rate` is per second; 0 is unlimited."""
        self._rate, self._burst = rate, max(1.0, BURST * rate)
        self._clients: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, client: str) -> None:
        """Counts a request of a client; raises ProblemError if it is one too many."""
        if not self._rate:
            return
        now = time.monotonic()
        left, last = self._clients.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - last) * self._rate)
        self._clients[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        if left < 1:
            seconds = max(1, round((1 - left) / self._rate))
            raise ProblemError(429, f"at most {self._rate:g} requests per second", {"Retry-After": str(seconds)})
