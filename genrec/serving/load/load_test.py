"""Load tests of a server: throughput, latencies at several loads, saturation, and changes while it serves."""

import asyncio
import dataclasses
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from absl import logging

from genrec import settings_check, tables
from genrec.data.dataset import Dataset
from genrec.serving.load import phases
from genrec.serving.load.changes import Changes
from genrec.serving.load.client import Client, LoadTestError
from genrec.serving.load.mix import RequestSource
from genrec.serving.load.tally import Tally
from genrec.settings import setting

ALONE = 30  # requests that are measured one after another
GROWTH = 1.5  # of the rate from one phase to the next, in search of the saturation
PLATEAU = 1.05  # growth of the throughput, below which more requests do not raise it
MOST_PHASES = 20
ROUNDS = 3  # of a comparison
T = TypeVar("T")
METRICS = re.compile(r"^(process_resident_memory_bytes|\w*compil\w*)(\{.*\})? ([0-9.e+]+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of the phases."""

    rates: tuple[float, ...] = setting((20.0,), "Requests per second, one phase each.", above=0)
    seconds: float = setting(10.0, "Seconds of each phase.", above=0)
    find_saturation: bool = setting(False, "Find the highest throughput, then measure at half and at twice of it.")
    changes: int = setting(0, "Changes of the catalogue during a phase at the first rate.", at_least=0)
    change_rate: float = setting(50.0, "Most changes per second.", above=0)
    settle: float = setting(0.0, "Seconds until replicas must know of a change of another one.", at_least=0)
    search_threads: int = setting(
        0, "Searches at a time in process, as --search_threads of the server; 0 is the same as there.", at_least=0
    )

    def __post_init__(self) -> None:
        settings_check.check(self)


class LoadTest:
    """A load test of one server; `results` grows with each measurement, and is JSON."""

    def __init__(self, client: Client, source: RequestSource):
        self._client, self._source = client, source
        self.results: dict[str, Any] = {"url": client.url, "mix": dataclasses.asdict(source.mix)}

    def run(self, plan: Plan, dataset: Dataset, vectors: Callable[[], np.ndarray | None]) -> None:
        """Runs all phases of a plan; `vectors` loads those by which changes add items, if they do not by texts."""
        phases.run(self._closing(self._run(plan, dataset, vectors)))

    async def _run(self, plan: Plan, dataset: Dataset, vectors: Callable[[], np.ndarray | None]) -> None:
        await self._ready()
        before = await self._metrics()
        self.results |= {"alone_ms": (await self._alone()).summary()["latency_ms"], "phases": []}
        if plan.changes:
            changes = Changes(self._client, dataset.catalogue, vectors(), plan.settle, self._source.mix.seed)
            await self._changed(plan, changes)
        else:
            for rate in plan.rates:
                await self._phase(rate, plan.seconds)
        if plan.find_saturation:
            await self._saturate(plan.seconds)
        self.results["server_metrics"] = {"before": before, "after": await self._metrics()}

    async def _ready(self) -> None:
        answer = await self._client.request("GET", "/health/ready")
        if answer.status != 200:
            raise LoadTestError(
                f"--url={self._client.url}: no server is ready there ({answer.broken or answer.status}). Start "
                "`python tools/serve.py --bundle=...`, or give another address."
            )
        self.results["server"] = (await self._client.request("GET", "/version")).json()

    async def _metrics(self) -> dict[str, float]:
        text = (await self._client.request("GET", "/metrics")).body.decode(errors="replace")
        return {name + labels: float(value) for name, labels, value in METRICS.findall(text)}

    async def _alone(self) -> Tally:
        """Measures requests one after another, after as many that are not counted."""
        for _ in ("not counted", "counted"):
            tally = await phases.one_by_one(self._client, self._source, ALONE)
            if not tally.answered:
                raise LoadTestError(f"the server answered no request with a list: {_first_error(tally)}")
        logging.info("one at a time: %.1f ms", np.median(tally.answered) * 1e3)
        return tally

    async def _phase(self, rate: float, seconds: float) -> Tally:
        tally = await phases.open_loop(self._client, self._source, rate, seconds)
        self._record(tally)
        return tally

    def _record(self, tally: Tally) -> None:
        self.results["phases"].append(tally.summary())
        logging.info("%.0f/s offered: %.1f/s completed", tally.rate or 0, tally.throughput)

    async def _changed(self, plan: Plan, changes: Changes) -> None:
        """Offers the first rate, with the changes made meanwhile, and nothing else before they are restored."""
        rate, seconds = plan.rates[0], plan.changes / plan.change_rate
        making = asyncio.create_task(changes.run(plan.changes, plan.change_rate))
        whole = Tally(rate=rate)
        while not making.done():
            part = await phases.open_loop(self._client, self._source, rate, min(plan.seconds, seconds), changes.watch)
            whole.extend(part)
        await making
        self._record(whole)
        self.results["changes"] = changes.summary()

    async def _saturate(self, seconds: float) -> None:
        rate = 500 / self.results["alone_ms"]["p50"]  # half of what one at a time gives
        best = 0.0
        for _ in range(MOST_PHASES):
            tally = await self._phase(rate, seconds)
            grown, best = tally.throughput > PLATEAU * best, max(best, tally.throughput)
            if tally.is_behind and not grown:
                break
            rate *= GROWTH
        half, double = await self._phase(best / 2, seconds), await self._phase(best * 2, seconds)
        alone = self.results["alone_ms"]["p50"]
        self.results["saturation"] = {
            "completed_per_second": round(best, 2),
            "half": half.summary(),
            "double": double.summary(),
            "p99_at_half_of_alone": _ratio(half.summary()["latency_ms"], alone),
        }

    def compare(
        self, plan: Plan, in_process: Callable[[float], dict[str, float]], clients: int, rounds: int = 3
    ) -> None:
        """Measures the server, in a closed loop, and the same searches without it, in turn.

        `in_process` searches for so many seconds and returns requests per second by batch size.
        """
        served, searched = list[float](), list[dict[str, float]]()
        for _ in range(ROUNDS):
            loop = phases.closed_loop(self._client, self._source, clients, plan.seconds)
            tally = phases.run(self._closing(loop))
            if tally.errors or tally.rejected or tally.late:
                raise LoadTestError(f"the server did not answer all of {clients} clients: {_first_error(tally)}")
            served.append(tally.throughput)
            searched.append(in_process(plan.seconds))
        medians = {size: round(float(np.median([one[size] for one in searched])), 2) for size in searched[0]}
        best = max(medians.values())
        self.results["in_process"] = {
            "clients": clients,
            "served_per_second": round(float(np.median(served)), 2),
            "searched_per_second": medians,
            "share": round(float(np.median(served)) / best, 3),
        }

    async def _closing(self, measurement: Coroutine[Any, Any, T]) -> T:
        try:
            return await measurement
        finally:
            self._client.close()  # connections belong to this event loop


def check(results: dict[str, Any]) -> None:
    """Raises LoadTestError if there was an error, or an item was returned after its removal."""
    errors = sum(sum(phase["errors"].values()) for phase in results["phases"])
    errors += sum(results.get("changes", {}).get("errors", {}).values())
    if errors:
        raise LoadTestError(f"{errors:,} errors, see above; the log of the server has their request ids.")


def _ratio(latencies: dict[str, float] | None, of: float) -> float | None:
    return None if latencies is None else round(latencies["p99"] / of, 2)


def _first_error(tally: Tally) -> str:
    if tally.errors:
        return next(iter(tally.errors))
    return f"{len(tally.rejected)} were rejected (503), {len(tally.late)} late (504)"


def table(results: dict[str, Any]) -> str:
    """Returns the phases as a table, and the other figures below it."""
    header = ["rate", "offered", "completed/s", "p50 ms", "p95", "p99", "503", "503 p99", "504", "errors", "lag p99"]
    rows = [_row(phase) for phase in results["phases"]]
    lines = [f"one at a time: median {results['alone_ms']['p50']} ms, p99 {results['alone_ms']['p99']} ms"]
    if rows:
        lines.append(tables.text(rows, header, floats=".1f", align="r"))
    lines += [f"error: {text} ({count})" for phase in results["phases"] for text, count in phase["errors"].items()]
    if found := results.get("saturation"):
        lines.append(
            f"saturation {found['completed_per_second']}/s; at half of it p99 is {found['p99_at_half_of_alone']} times "
            "the median of one at a time"
        )
    if found := results.get("in_process"):
        lines.append(
            f"served {found['served_per_second']}/s to {found['clients']} clients, {found['share']} of the searches in "
            f"process (by batch size {found['searched_per_second']})"
        )
    if found := results.get("changes"):
        lines.append(f"{found['made']} changes, {found['returned_after_removal']} items returned after their removal")
        lines += [f"error: {text} ({count})" for text, count in found["errors"].items()]
    return "\n".join(lines)


def _row(phase: dict[str, Any]) -> Sequence[object]:
    taken, rejected = phase["latency_ms"] or {}, phase["rejected_ms"] or {}
    return [
        phase["rate"],
        phase["offered"],
        phase["completed_per_second"],
        *(taken.get(name) for name in ("p50", "p95", "p99")),
        phase["rejected"],
        rejected.get("p99"),
        phase["late"],
        sum(phase["errors"].values()),
        (phase["delay_ms"] or {}).get("p99"),
    ]
