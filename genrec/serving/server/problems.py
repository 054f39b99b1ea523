"""Problems that a client is told of: application/problem+json (RFC 9457)."""

import http
import json
from collections.abc import Mapping

from genrec.errors import GenrecError
from genrec.serving.store.errors import ConflictError, StoreUnavailable

CONTENT_TYPE = "application/problem+json"
LONGEST = 1000  # characters of a detail


class ProblemError(Exception):
    """Error of a request, or of the server now; `detail` says what to do."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def fields(self, request_id: str) -> dict[str, object]:
        """Returns the fields for JSON."""
        return {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail[:LONGEST],
            "request_id": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """Returns the body of an answer."""
        return json.dumps(self.fields(request_id)).encode()


def unavailable(detail: str, seconds: float = 1) -> ProblemError:
    """Returns the problem of a server that cannot answer now, and may after some seconds."""
    return ProblemError(503, detail, {"Retry-After": str(max(1, round(seconds)))})


def problem_of(error: Exception) -> ProblemError | None:
    """Returns what a client is told of an error; None if it is the server's, which only the log tells."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, StoreUnavailable):
        return unavailable("the store does not answer. Try again.")
    if isinstance(error, ConflictError):
        return ProblemError(409, str(error))
    return ProblemError(422, str(error)) if isinstance(error, GenrecError) else None
