"""Batches: the searches that wait together are computed together, by the few threads that use the device.

An accelerator has one. A search keeps little more than one core of a CPU busy, so there each core has a thread.

Of the searches that wait, the one with the earliest deadline is next, and with it those of the same program, as many as
are answered per second the most, and, of more than a few, no more than the part of one thread. Nothing waits for a
batch to fill: while the device computes one, the next gathers.
What changes the catalogue runs alone.

Under more load than the device can take, those are refused at once whose wait would use up too much of their time: so
those that are accepted keep their deadline, and no batch is computed for answers that come too late.
"""

import asyncio
import collections
import contextlib
import functools
import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import jax
import numpy as np

from genrec.data.filters import EVERYTHING
from genrec.errors import GenrecError
from genrec.serving.queries import PreparedQuery, Recommendations, Shortage
from genrec.serving.requests import Request
from genrec.serving.served_engine import Options, Query, ServedEngine
from genrec.serving.server.metrics import CACHE_FIGURES, Metrics
from genrec.serving.server.problems import ProblemError, unavailable

T = TypeVar("T")

MARGIN = 2.0  # the wait for a batch may be longer than expected by this factor; a longer queue answers no more
CLOSE = 0.9  # share of the best throughput with which a smaller batch is taken, whose requests wait less
TOGETHER = 4  # requests that one thread takes, if no more wait
AT_ONCE = 8  # answers that are delivered before the event loop does other things
LEARNING = 0.2  # weight of the last batch in the expected time of the next
USUAL = 1e-3  # seconds of a search, where nobody has measured it
MOST_THREADS = 4  # by default: their own work in Python takes turns
MOST_PROGRAMS = 1000  # whose pace is kept
MEASURED = 10  # items of the history that is searched for to measure the time
MEASUREMENTS = 3  # of each batch size, of which the quickest counts
Found = tuple[Recommendations, Shortage | None]
_count = itertools.count()


class Job:
    """Work for the device: a search, or a call of a function."""

    __slots__ = ("alone", "arrived", "cost", "deadline", "future", "prepared", "run")

    def __init__(self, deadline: float, cost: float, future: "asyncio.Future[object]"):
        """Times are those of `time.monotonic`, in seconds; `cost` is the time that it is expected to take."""
        self.deadline, self.cost, self.future, self.arrived = deadline, cost, future, time.monotonic()
        self.prepared: PreparedQuery | None = None
        self.run: Callable[[], object] | None = None
        self.alone = False  # whether nothing else may run meanwhile


class SupersededError(Exception):
    """The batcher is closed: another bundle answers."""


class Batcher:
    """The queue of one engine, and the threads that compute what is in it. Its methods are for the event loop."""

    def __init__(
        self,
        engine: ServedEngine,
        metrics: Metrics,
        max_queue: int,
        seconds: dict[int, float] | None = None,
        threads: int = 1,
    ):
        """`seconds` are the times of a search by batch size, as `measure` returns them."""
        self._engine, self._metrics, self._max_queue = engine, metrics, max_queue
        self._usual = dict(seconds or dict.fromkeys(engine.batch_sizes, USUAL))  # seconds, by batch size
        # By how much the last searches of a program took longer than usual. Of each batch size it would be learned
        # only while that is taken: one that was slow once would never be taken again.
        self._pace: dict[Hashable, float] = {}
        self._call_seconds: dict[str, float] = collections.defaultdict(float)  # by name of a call
        # Of each program the jobs that wait, by deadline. Guarded by the condition, as is what follows.
        self._groups: dict[Hashable, list[tuple[float, int, Job]]] = {}
        self._waiting, self._load = 0, 0.0
        self._busy_until = [0.0] * threads  # when each thread is expected to end its batch; 0 for one without
        self._running, self._alone, self._closed = 0, False, False
        self._changed = threading.Condition()
        self._loop = asyncio.get_running_loop()
        labels = engine.card.fingerprint[:12]
        self._lists, self._batch_requests = metrics.lists.labels(labels), metrics.batch_requests.labels(labels)
        self._batch_seconds = metrics.batch_seconds.labels(labels)
        for figure in CACHE_FIGURES:
            read = functools.partial(getattr, engine.cache, figure)
            metrics.encoded.labels(labels, figure).set_function(read)
        metrics.compilations.labels(labels).set_function(lambda: engine.compilations)
        self._queue_seconds = metrics.queue_seconds
        metrics.waiting.set_function(lambda: self._waiting)
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"device {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        """True while all threads of the device run."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def stuck_seconds(self) -> float:
        """How much longer than expected the device has been busy."""
        now = time.monotonic()
        return max(max(0.0, now - busy_until) if busy_until else 0.0 for busy_until in self._busy_until)

    def admit(self, deadline: float) -> None:
        """Raises ProblemError if a search that is asked for now would come after the deadline, or the queue is full."""
        self._admit(deadline, min(self._usual.values()))

    def search(self, prepared: PreparedQuery, deadline: float) -> "asyncio.Future[Found]":
        """Returns the future list of a query, with what it lacks.

        Raises ProblemError if it would come after the deadline, and SupersededError after `close`. Cancel the future of
        a request whose client has gone: it is not computed.
        """
        program, sizes = prepared.program, self._engine.sizes_of(prepared.program)
        cost = min(self._expected(program, size) / size for size in sizes)
        self._admit(deadline, self._expected(program, sizes[0]))
        job = Job(deadline, cost, self._loop.create_future())
        job.prepared = prepared
        self._add(program, job)
        return job.future  # type: ignore[return-value]  # jobs have results of several types

    def call(self, name: str, function: Callable[[], T], deadline: float) -> "asyncio.Future[T]":
        """Returns the future result of a function that needs the device; see `search`. `name` is that of its kind."""
        self._admit(deadline, self._call_seconds[name])
        return self._call(name, function, deadline, alone=False)

    def call_alone(self, name: str, function: Callable[[], T], deadline: float) -> "asyncio.Future[T]":
        """As `call`, of a function beside which nothing else may run; it waits however many wait."""
        return self._call(name, function, deadline, alone=True)

    def _call(self, name: str, function: Callable[[], T], deadline: float, alone: bool) -> "asyncio.Future[T]":
        job = Job(deadline, self._call_seconds[name], self._loop.create_future())
        job.alone = alone

        def timed() -> T:
            start = time.monotonic()
            result = function()
            self._call_seconds[name] += LEARNING * (time.monotonic() - start - self._call_seconds[name])
            return result

        job.run = timed
        self._add(("call", next(_count)), job)
        return job.future  # type: ignore[return-value]  # jobs have results of several types

    async def close(self) -> None:
        """Waits until all that waits is computed, and ends the threads; nothing may be added meanwhile."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while any(thread.is_alive() for thread in self._threads):
            await asyncio.sleep(0.01)

    def _admit(self, deadline: float, seconds: float) -> None:
        """Raises ProblemError if the queue is full, or too long for a job that takes `seconds` by itself."""
        now = time.monotonic()
        wait = max(0.0, min(self._busy_until) - now) + self._load / len(self._threads)
        if self._waiting >= self._max_queue or (wait and now + MARGIN * (wait + seconds) > deadline):
            self._metrics.refused.labels("queue").inc()
            raise unavailable("the server is busy. Try again later, or with a later deadline_ms.", wait)

    def _add(self, program: Hashable, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise SupersededError
            heapq.heappush(self._groups.setdefault(program, []), (job.deadline, next(_count), job))
            self._waiting += 1
            self._load += job.cost
            self._changed.notify()
        timer = self._loop.call_at(self._loop.time() + max(0.0, job.deadline - job.arrived), self._expire, job)
        job.future.add_done_callback(lambda _: timer.cancel())

    def _expire(self, job: Job) -> None:
        if not job.future.done():
            self._metrics.refused.labels("deadline").inc()
            job.future.set_exception(_too_late())

    def _expected(self, program: Hashable, size: int) -> float:
        return self._usual[size] * self._pace.get(program, 1.0)

    # The threads of the device.

    def _work(self, number: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._may_take() or (self._closed and not self._groups))
                if not self._groups:
                    return
                program, jobs, size, seconds = self._take()
                if not jobs:
                    continue
                self._busy_until[number] = time.monotonic() + seconds
                self._running, self._alone = self._running + 1, jobs[0].alone
            self._compute(number, program, jobs, size)
            with self._changed:
                self._running, self._alone = self._running - 1, False
                self._changed.notify_all()

    def _may_take(self) -> bool:
        """Returns whether the next job may run beside those that do."""
        return bool(self._groups) and not self._alone and not (self._running and self._groups[self._next()][0][2].alone)

    def _next(self) -> Hashable:
        return min(self._groups, key=lambda one: self._groups[one][0])

    def _take(self) -> tuple[Hashable, list[Job], int, float]:
        """Returns the next jobs, of one program, and the batch size and time for them; no jobs if nobody waits."""
        program = self._next()
        group, jobs, late, now = self._groups[program], list[Job](), list[Job](), time.monotonic()
        first, size, sizes = group[0][2], 1, tuple[int, ...]()
        is_call, seconds = first.prepared is None, first.cost
        if first.prepared is not None:
            sizes = self._engine.sizes_of(first.prepared.program)
            # All threads take their part of those who wait, also those that are about to end a batch: smaller batches
            # are answered sooner. But few are taken together: what Python does takes less time for one batch than for
            # two, which also wait for each other's turn.
            part = -(-len(group) // len(self._threads))
            size = self._best_size(sizes, len(group) if len(group) <= TOGETHER else part)
            seconds = self._expected(program, size)
        while group and len(jobs) < size:
            _, _, job = heapq.heappop(group)
            self._waiting -= 1
            self._load -= job.cost
            if not job.future.done():  # else its client has gone, or its deadline has passed
                (jobs if is_call or now + seconds < job.deadline else late).append(job)
        if not jobs:
            jobs, late = late[:size], late[size:]  # the times may be wrong: only a search tells
        if late:
            self._metrics.refused.labels("deadline").inc(len(late))
            self._deliver(late, [_too_late() for _ in late])
        if not group:
            del self._groups[program]
        if not self._groups:
            self._load = 0.0  # what rounding has left
        if len(jobs) < size and jobs and not is_call:
            size = min(one for one in sizes if one >= len(jobs))
            seconds = self._expected(program, size)
        return program, jobs, size, seconds

    def _best_size(self, sizes: Sequence[int], waiting: int) -> int:
        """Returns the smallest batch size with about the best throughput for those who wait."""
        rates = {size: min(waiting, size) / self._usual[size] for size in sizes}
        return min(size for size, rate in rates.items() if rate >= CLOSE * max(rates.values()))

    def _compute(self, number: int, program: Hashable, jobs: Sequence[Job], size: int) -> None:
        if (run := jobs[0].run) is not None:
            outcome = _outcome(run)
            self._busy_until[number] = 0.0
            self._deliver(jobs, [outcome])
            return
        start = time.monotonic()
        for job in jobs:
            self._queue_seconds.observe(start - job.arrived)
        prepared = [job.prepared for job in jobs if job.prepared is not None]
        results = self._search(prepared)
        self._busy_until[number] = 0.0  # before the answers: who has one may ask again at once
        seconds = time.monotonic() - start
        self._learn(program, size, seconds)
        self._batch_requests.observe(len(jobs))
        self._batch_seconds.observe(seconds)
        self._lists.inc(len(jobs))
        short = [_is_short(one.query, found) for one, found in zip(prepared, results, strict=True)]
        complete = [place for place, is_short in enumerate(short) if not is_short]
        if complete:
            self._deliver([jobs[place] for place in complete], [(results[place], None) for place in complete])
        for job, one, found, is_short in zip(jobs, prepared, results, short, strict=True):
            if is_short and isinstance(found, Recommendations):
                self._deliver([job], [self._with_shortage(one.query, found)])

    def _search(self, prepared: Sequence[PreparedQuery]) -> Sequence[Recommendations | Exception]:
        """Returns a list for each query, or what is wrong with it."""
        try:
            return self._engine.search(prepared)
        except GenrecError as error:
            if len(prepared) == 1:
                return [error]
            return [self._search([one])[0] for one in prepared]  # one of them is wrong: the others are answered
        except Exception as error:
            logging.exception("a search failed")
            return [error] * len(prepared)

    def _with_shortage(self, query: Query, found: Recommendations) -> Found | Exception:
        try:
            return found, self._engine.shortage(query, found)
        except Exception as error:
            return error

    def _learn(self, program: Hashable, size: int, seconds: float) -> None:
        pace = seconds / self._usual[size]
        before = self._pace.get(program, pace)
        if len(self._pace) >= MOST_PROGRAMS:
            self._pace.clear()
        self._pace[program] = before + LEARNING * (pace - before)

    def _deliver(self, jobs: Sequence[Job], results: Sequence[object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(self._set, jobs, results)

    def _set(self, jobs: Sequence[Job], results: Sequence[object]) -> None:
        _set(jobs[:AT_ONCE], results[:AT_ONCE])
        if len(jobs) > AT_ONCE:
            self._loop.call_soon(self._set, jobs[AT_ONCE:], results[AT_ONCE:])


def _set(jobs: Sequence[Job], results: Sequence[object]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if not job.future.done():
            if isinstance(result, tuple) and isinstance(result[0], Exception):
                result = result[0]
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)


def _outcome(run: Callable[[], object]) -> object:
    """Returns what a function returns or, as an object, raises."""
    try:
        return run()
    except Exception as error:
        return error


def _is_short(query: Query, found: Recommendations | Exception) -> bool:
    """Returns whether a prompt may have rules that leave fewer items than asked for."""
    return isinstance(found, Recommendations) and bool(query.request.prompt) and len(found.items) < query.options.top


def usual_threads() -> int:
    """Returns how many searches run at a time: one for each core that this process may use, or one accelerator."""
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def compute_in_own_thread() -> None:
    """Lets JAX compute on a CPU in the thread that waits for the result; call it before anything is computed.

    By default another thread computes, so that its caller can do other things meanwhile. Searches wait at once.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def measure(engine: ServedEngine) -> dict[int, float]:
    """Returns the time of a search by batch size, in seconds."""
    random, found = np.random.default_rng(0), {}
    length = min(MEASURED, len(engine.catalogue))
    for size in engine.batch_sizes:
        times = []
        for _ in range(MEASUREMENTS):
            # Of different histories: none is in the cache of encoded ones.
            histories = random.integers(0, len(engine.catalogue), (size, length)).astype(np.int32)
            queries = [Query(Request("", history), Options(top=1), EVERYTHING) for history in histories]
            start = time.monotonic()
            engine.recommend(queries)
            times.append(time.monotonic() - start)
        found[size] = min(times)
    return found


def _too_late() -> ProblemError:
    return ProblemError(504, "the deadline passed before the answer. Give a later deadline_ms.")
