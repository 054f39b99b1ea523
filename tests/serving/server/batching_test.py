import asyncio
import threading
import time

import numpy as np
import pytest
from stub_engine import StubEngine

from genrec.data.filters import EVERYTHING
from genrec.errors import GenrecError
from genrec.serving.requests import Request
from genrec.serving.served_engine import Options, Query
from genrec.serving.server.batching import Batcher, SupersededError, measure
from genrec.serving.server.metrics import Metrics
from genrec.serving.server.problems import ProblemError

SOON = 30.0  # seconds


def query(*history: int, top: int = 3, **options) -> Query:
    return Query(Request("u", np.array(history, np.int32)), Options(top=top, **options), EVERYTHING)


def with_batcher(
    test, engine: StubEngine, max_queue: int = 100, seconds: dict[int, float] | None = None, threads: int = 1
):
    async def run():
        batcher = Batcher(engine, Metrics(), max_queue, seconds, threads)
        try:
            return await test(
                batcher, lambda one, wait=SOON: batcher.search(engine.prepare(one), time.monotonic() + wait)
            )
        finally:
            engine.gate.set()
            await batcher.close()

    return asyncio.run(run())


async def busy(engine: StubEngine, search):
    """Makes the device busy with a search, until the gate is opened; returns its future."""
    engine.gate.clear()
    engine.entered.clear()
    first = search(query(0))
    await asyncio.to_thread(engine.entered.wait)
    return first


def test_searches_that_wait_are_searched_together_by_program():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n, temperature=float(n % 2))) for n in range(8)]
        engine.gate.set()
        return await asyncio.gather(first, *rest)

    found = with_batcher(run, engine, seconds={1: 1e-3, 4: 2e-3, 16: 10e-3})
    assert engine.batches == [1, 4, 4]
    assert [ranked.items.tolist() for ranked, _ in found] == [[0, 1, 2]] * 9


def test_the_batch_size_is_that_which_answers_most_per_second():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in range(6)]
        engine.gate.set()
        await asyncio.gather(first, *rest)

    with_batcher(run, engine, seconds={1: 1e-3, 4: 2e-3, 16: 2.5e-3})
    assert engine.batches == [1, 6]


def test_the_earliest_deadline_is_next():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(one), wait) for one, wait in ((5, 30), (6, 10), (7, 20))]
        engine.gate.set()
        await asyncio.gather(first, *rest)

    with_batcher(run, engine, seconds={1: 1e-3, 4: 1, 16: 1})
    assert engine.histories == [[0], [6], [7], [5]]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in range(3)]
        with pytest.raises(ProblemError) as refused:
            search(query(9))
        engine.gate.set()
        await asyncio.gather(first, *rest)
        return refused.value

    problem = with_batcher(run, engine, max_queue=3)
    assert problem.status == 503
    assert int(problem.headers["Retry-After"]) >= 1


def test_a_search_that_would_be_too_late_is_refused_and_one_with_time_is_not():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in range(5)]  # a quarter of a second each
        with pytest.raises(ProblemError) as refused:
            search(query(9), 1.0)
        rest.append(search(query(9), 10.0))
        engine.gate.set()
        await asyncio.gather(first, *rest)
        return refused.value.status

    assert with_batcher(run, engine, seconds={1: 0.25, 4: 1.0, 16: 4.0}) == 503


def test_a_full_queue_is_known_before_a_query_is_prepared():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        batcher.admit(time.monotonic() + SOON)
        rest = [search(query(n)) for n in range(3)]
        with pytest.raises(ProblemError) as refused:
            batcher.admit(time.monotonic() + SOON)
        engine.gate.set()
        await asyncio.gather(first, *rest)
        batcher.admit(time.monotonic())  # nobody waits
        return refused.value.status

    assert with_batcher(run, engine, max_queue=3) == 503


def test_searches_that_would_come_too_late_make_way_for_others_and_are_computed_if_there_are_none():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        late, in_time = search(query(1), 5.0), search(query(2), 60.0)
        batcher._pace[False] = 20_000  # another search has taken 20 seconds
        engine.gate.set()
        with pytest.raises(ProblemError) as problem:
            await late
        await asyncio.gather(first, in_time)
        assert len((await search(query(3), 5.0))[0].items) == 3
        return problem.value.status

    assert with_batcher(run, engine, seconds={1: 1e-3, 4: 10.0, 16: 10.0}) == 504
    assert engine.histories == [[0], [2], [3]]


def test_of_about_equal_batch_sizes_the_smaller_is_taken():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in range(20, 36)]
        engine.gate.set()
        await asyncio.gather(first, *rest)

    with_batcher(run, engine, seconds={1: 0.1, 4: 0.0041, 16: 0.016})
    assert engine.batches[1] == 4


def test_a_batch_that_was_slow_once_leaves_its_size_the_best():
    engine = StubEngine()

    async def run(batcher, search):
        for waiting, engine.seconds in ((4, 0.05), (16, 0.0)):
            first = await busy(engine, search)
            rest = [search(query(n)) for n in range(20, 20 + waiting)]
            engine.gate.set()
            await asyncio.gather(first, *rest)

    with_batcher(run, engine, seconds={1: 1e-3, 4: 1e-3, 16: 5e-3})
    assert engine.batches == [1, 4, 1, 4, 4, 4, 4]


def test_a_deadline_that_passes_is_a_problem_and_the_search_is_not_computed():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        late = search(query(9), 0.05)
        with pytest.raises(ProblemError) as passed:
            await late
        engine.gate.set()
        await first
        return passed.value.status

    assert with_batcher(run, engine) == 504
    assert engine.histories == [[0]]


def test_a_search_that_is_canceled_is_not_computed():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        gone, kept = search(query(7)), search(query(8))
        gone.cancel()
        engine.gate.set()
        await asyncio.gather(first, kept)

    with_batcher(run, engine)
    assert engine.histories == [[0], [8]]


def test_a_search_that_cannot_be_met_spoils_no_other():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in (1, 13, 2)]
        engine.gate.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    _, one, wrong, two = with_batcher(run, engine)
    assert isinstance(wrong, GenrecError)
    assert len(one[0].items) == len(two[0].items) == 3


def test_calls_run_in_the_thread_of_the_device_and_their_errors_are_told():
    engine = StubEngine()

    async def run(batcher, search):
        deadline = time.monotonic() + SOON
        return await asyncio.gather(
            batcher.call("add", lambda: 1 + 1, deadline),
            batcher.call("fail", lambda: 1 // 0, deadline),
            return_exceptions=True,
        )

    two, error = with_batcher(run, engine)
    assert two == 2
    assert isinstance(error, ZeroDivisionError)


def test_threads_search_at_once_and_share_those_who_wait():
    engine, together = StubEngine(), threading.Barrier(2)  # which no thread passes alone
    one = engine.search

    def search_together(prepared):
        together.wait(SOON)
        return one(prepared)

    engine.search = search_together

    async def run(batcher, search):
        with batcher._changed:  # nothing is taken until all wait
            found = [search(query(n)) for n in range(8)]
        return await asyncio.gather(*found)

    found = with_batcher(run, engine, seconds={1: 1e-3, 4: 1e-3, 16: 1e-3}, threads=2)
    assert engine.batches == [4, 4]
    assert len(found) == 8


def left_by_an_idle_thread(engine, waiting):
    """Returns how many of those who wait are left when one of two threads has taken a batch and the other is busy."""

    async def run(batcher, search):
        first = await busy(engine, search)
        with batcher._changed:  # nothing is taken until all wait
            rest = [search(query(n)) for n in range(waiting)]
        while batcher._waiting == waiting:
            await asyncio.sleep(0.001)
        left = batcher._waiting
        engine.gate.set()
        await asyncio.gather(first, *rest)
        return left

    return with_batcher(run, engine, seconds={1: 1e-3, 4: 1e-3, 16: 1e-3}, threads=2)


def test_a_thread_leaves_their_part_to_those_that_are_busy():
    assert left_by_an_idle_thread(StubEngine(), 8) == 4


def test_few_who_wait_are_searched_together_by_one_thread():
    engine = StubEngine()
    left_by_an_idle_thread(engine, 4)
    assert sorted(engine.batches) == [1, 4]


def test_nothing_runs_beside_what_must_run_alone():
    engine, events = StubEngine(), []

    async def run(batcher, search):
        first = await busy(engine, search)

        def change():
            events.append("changing")
            time.sleep(0.05)
            events.append(len(engine.batches))

        changed = batcher.call_alone("change", change, time.monotonic() + SOON / 2)
        later = [search(query(n)) for n in range(3)]  # whose deadline is later
        await asyncio.sleep(0.05)
        assert events == [] and engine.batches == []  # the first search still runs
        engine.gate.set()
        await asyncio.gather(first, changed, *later)

    with_batcher(run, engine, threads=3)
    assert events == ["changing", 1]


def test_closing_answers_those_who_wait_and_takes_no_more():
    engine = StubEngine()

    async def run(batcher, search):
        first = await busy(engine, search)
        rest = [search(query(n)) for n in range(3)]
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        with pytest.raises(SupersededError):
            search(query(4))
        engine.gate.set()
        await closing
        return await asyncio.gather(first, *rest)

    assert len(with_batcher(run, engine)) == 4


def test_a_list_that_rules_of_a_prompt_leave_short_comes_with_its_shortage():
    engine = StubEngine(items=2)

    async def run(batcher, search):
        asked = query(top=3)
        return await search(Query(Request("u", np.zeros(0, np.int32), prompt="only jazz"), asked.options, EVERYTHING))

    ranked, shortage = with_batcher(run, engine)
    assert len(ranked.items) == 2
    assert shortage.eligible == 2


def test_every_batch_size_is_measured():
    engine = StubEngine()
    seconds = measure(engine)
    assert set(seconds) == set(engine.batch_sizes)
    assert set(engine.batches) == set(engine.batch_sizes)
