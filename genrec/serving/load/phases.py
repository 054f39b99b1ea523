"""Phases of a load test: requests at a given rate whether or not earlier ones are answered, or one after another."""

import asyncio
import select
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from genrec.serving.load.client import Answer, Client
from genrec.serving.load.mix import RequestSource
from genrec.serving.load.tally import Tally

RECOMMEND = "/v1/recommend"
PATIENT = 60_000  # milliseconds, where there is no open loop
Watch = Callable[[Answer, float], str]  # an answer with a list, and when its request was sent; returns what is wrong


T = TypeVar("T")


def run(measurement: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a measurement, in an event loop whose timers are exact to some 0.1 ms."""
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        return runner.run(measurement)


def _event_loop() -> asyncio.AbstractEventLoop:
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()

    class Selector(selectors.EpollSelector):
        """Waits by `select`, which counts microseconds: with the milliseconds of epoll, requests are sent too late."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select((self.fileno(),), (), (), timeout)
                timeout = 0
            return super().select(timeout)

    return asyncio.SelectorEventLoop(Selector())


def no_watch(answer: Answer, sent: float) -> str:
    """Returns that nothing is wrong."""
    return ""


async def open_loop(
    client: Client, source: RequestSource, rate: float, seconds: float, watch: Watch = no_watch
) -> Tally:
    """Offers `rate` requests per second as a Poisson process for `seconds`, and waits for the last answers."""
    tally, tasks = Tally(rate=rate, seconds=seconds), set[asyncio.Task[None]]()
    start = due = time.perf_counter()
    while (due := due + source.random.exponential(1 / rate)) < start + seconds:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tally.offered += 1
        task = asyncio.create_task(_ask(client, source, tally, due, start + seconds, watch))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return tally


async def one_by_one(client: Client, source: RequestSource, requests: int) -> Tally:
    """Sends requests one after another: the time of one search alone."""
    tally = Tally()
    start = time.perf_counter()
    for _ in range(requests):
        tally.offered += 1
        await _ask(client, source, tally, time.perf_counter(), float("inf"), no_watch)
    tally.seconds = time.perf_counter() - start
    return tally


async def closed_loop(client: Client, source: RequestSource, clients: int, seconds: float) -> Tally:
    """Keeps `clients` requests under way for `seconds`: each client sends its next request after its answer.

    The requests have no deadline to speak of.
    """
    tally = Tally(seconds=seconds)
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (now := time.perf_counter()) < end:
            tally.offered += 1
            await _ask(client, source, tally, now, end, no_watch)

    await asyncio.gather(*(one() for _ in range(clients)))
    return tally


async def _ask(client: Client, source: RequestSource, tally: Tally, due: float, end: float, watch: Watch) -> None:
    draw, sent = source.draw(), time.perf_counter()
    tally.delays.append(sent - due)
    request = draw.request if tally.rate else draw.request | {"deadline_ms": PATIENT}
    answer = await client.request("POST", RECOMMEND, {"requests": [request]})
    now = time.perf_counter()
    if not tally.add(answer, now - due, draw.returning):
        return
    tally.within += now <= end
    source.answered(draw)
    if wrong := watch(answer, sent):
        tally.errors[wrong] += 1
