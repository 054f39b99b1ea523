"""Counts and latencies of the requests of one phase of a load test."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from genrec.errors import cut
from genrec.serving.load.client import Answer

REJECTED, LATE = 503, 504
SHOWN_ERRORS = 10
KEPT_UP = 0.9  # share of the offered requests that a server completes which keeps up
ENOUGH = 100  # requests


def milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    """Returns median, 95th and 99th percentile and maximum of durations, in milliseconds; None if there is none."""
    if not seconds:
        return None
    p50, p95, p99 = (round(float(value) * 1e3, 2) for value in np.percentile(seconds, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99, "max": round(max(seconds) * 1e3, 2)}


@dataclasses.dataclass
class Tally:
    """Counts and durations of one phase. Durations are from the moment when a request was due, not when it was sent."""

    rate: float | None = None  # requests per second that were offered; None in a closed loop
    seconds: float = 0.0  # of the phase
    offered: int = 0
    within: int = 0  # requests that were answered with a list before the phase ended
    first: list[float] = dataclasses.field(default_factory=list)  # seconds of answered requests of users who are new
    returning: list[float] = dataclasses.field(default_factory=list)  # and of users who came back
    rejected: list[float] = dataclasses.field(default_factory=list)
    late: list[float] = dataclasses.field(default_factory=list)
    delays: list[float] = dataclasses.field(default_factory=list)  # between due and sent: of the generator itself
    errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, answer: Answer, seconds: float, returning: bool = False) -> bool:
        """Counts an answer of /v1/recommend, for one request, after `seconds`; returns whether it has a list."""
        status, problem = outcome(answer)
        if status == REJECTED:
            self.rejected.append(seconds)
            if "retry-after" not in answer.headers:
                self.errors["503 without Retry-After"] += 1
        elif status == LATE:
            self.late.append(seconds)
        elif problem:
            self.errors[problem] += 1
        else:
            (self.returning if returning else self.first).append(seconds)
            return True
        return False

    def extend(self, other: "Tally") -> None:
        """Adds the counts and durations of a phase that followed this one."""
        for field in dataclasses.fields(self):
            if field.name == "errors":
                self.errors.update(other.errors)
            elif field.name != "rate":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def answered(self) -> list[float]:
        """Seconds of all requests that were answered with a list."""
        return [*self.first, *self.returning]

    @property
    def throughput(self) -> float:
        """Requests per second that were answered with a list."""
        return self.within / self.seconds if self.seconds else 0.0

    @property
    def is_behind(self) -> bool:
        """True if the server did not keep up with the requests that were offered."""
        in_time = len(self.answered) if self.offered < ENOUGH else self.within  # of few, some are always under way
        return in_time < KEPT_UP * self.offered

    def summary(self) -> dict[str, Any]:
        """Returns the figures, for JSON; durations in milliseconds."""
        found: dict[str, Any] = {
            "rate": self.rate,
            "seconds": round(self.seconds, 2),
            "offered": self.offered,
            "completed": len(self.answered),
            "completed_per_second": round(self.throughput, 2),
            "rejected": len(self.rejected),
            "late": len(self.late),
            "errors": dict(self.errors.most_common(SHOWN_ERRORS)),
            "latency_ms": milliseconds(self.answered),
            "rejected_ms": milliseconds(self.rejected),
            "late_ms": milliseconds(self.late),
            "delay_ms": milliseconds(self.delays),
        }
        if self.returning:
            found |= {"first_ms": milliseconds(self.first), "returning_ms": milliseconds(self.returning)}
        return found


def outcome(answer: Answer) -> tuple[int, str]:
    """Returns the status of an answer for one request, and what is wrong with it; an empty text for a list.

    An answer 200 may hold the problem of its only request.
    """
    if answer.broken:
        return 0, cut(answer.broken)
    value = answer.json()
    if answer.status != 200:
        detail = value.get("detail") or value.get("title") if isinstance(value, dict) else None
        return answer.status, cut(f"{answer.status} {detail or ''}".strip())
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
        return 200, "200 without one result"
    if isinstance(problem := results[0].get("problem"), dict):
        return int(problem.get("status", 0)), cut(f"{problem.get('status')} {problem.get('detail', '')}".strip())
    if not isinstance(results[0].get("recommended"), list):
        return 200, "200 without a list"
    return 200, ""


def item_ids(answer: Answer) -> list[str]:
    """Returns the items of an answer that `outcome` finds right."""
    return [item["item_id"] for item in answer.json()["results"][0]["recommended"]]
