import asyncio

import pytest

from genrec.serving.server.reading import Reader
from genrec.serving.store.errors import StoreError, StoreUnavailable
from genrec.serving.store.store import Event, Known, StoredProfile


class Reads:
    """A store, which remembers what was read at once."""

    def __init__(self):
        self.batches: list[dict[str, int]] = []

    async def __call__(self, users):
        self.batches.append(dict(users))
        await asyncio.sleep(0.001)
        if "bad" in users:
            raise StoreError("no user id")
        if "away" in users:
            raise StoreUnavailable("the store is away")
        return {user: Known(None, [Event(user, last)]) for user, last in users.items()}


def never(user: str) -> Known | None:
    return None


def known(reads: Reads, *users: tuple[str, int]):
    async def run():
        reader = Reader(reads, never)
        return await asyncio.gather(*(reader.known(*one) for one in users), return_exceptions=True)

    return asyncio.run(run())


def test_users_who_are_asked_for_together_are_read_together():
    reads = Reads()
    found = known(reads, ("a", 3), ("b", 0), ("a", 5))
    assert reads.batches == [{"a": 5, "b": 0}]
    assert [one.events[0].item_id for one in found] == ["a", "b", "a"]


def test_an_error_of_one_user_is_not_that_of_others():
    first, second = known(Reads(), ("a", 1), ("bad", 1))
    assert first.events[0].item_id == "a"
    assert isinstance(second, StoreError)


def test_a_store_that_is_away_is_told_to_all_and_asked_again_later():
    async def run():
        reader = Reader(Reads(), never)
        with pytest.raises(StoreUnavailable):
            await reader.known("away", 1)
        return await reader.known("a", 1)

    assert asyncio.run(run()).events[0].item_id == "a"


def test_a_profile_alone_is_read_at_once_where_that_is_possible():
    reads = Reads()
    at_once = {"a": Known(StoredProfile("{}", 1), [])}

    async def run():
        reader = Reader(reads, at_once.get)
        return await asyncio.gather(*(reader.known(user, last) for user, last in (("a", 0), ("a", 2), ("c", 0))))

    alone, with_events, from_thread = asyncio.run(run())
    assert alone == at_once["a"]
    assert [event.item_id for event in with_events.events + from_thread.events] == ["a", "c"]
    assert reads.batches == [{"a": 2, "c": 0}]
