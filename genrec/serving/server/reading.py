"""Reads of the store for recommendations: those that arrive together are read together.

A profile alone is read at once where the store is a file: the way to another thread and back takes longer, and most of
all under load.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from genrec.errors import GenrecError
from genrec.serving.store.store import Known

# Reads what is known of users with their numbers of events, in another thread.
Read = Callable[[Mapping[str, int]], Awaitable[dict[str, Known]]]
# Reads the profile of a user without waiting; returns None where that is not possible.
ReadAtOnce = Callable[[str], Known | None]


class Reader:
    """Reads what the store has of users; while it reads, the next ones gather. For the event loop."""

    def __init__(self, read: Read, at_once: ReadAtOnce):
        self._read, self._at_once = read, at_once
        self._wanted: list[tuple[str, int, asyncio.Future[Known]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def known(self, user: str, last: int) -> Known:
        """Returns what the store has of a user, with at least the `last` events; raises StoreError."""
        if last == 0 and (found := self._at_once(user)) is not None:
            return found
        future = asyncio.get_running_loop().create_future()
        self._wanted.append((user, last, future))
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, []
                users: dict[str, int] = {}
                for user, last, _ in wanted:
                    users[user] = max(last, users.get(user, 0))
                found = await self._found(users)
                for user, _, future in wanted:
                    one = found[user]
                    if future.done():  # its client has gone
                        continue
                    if isinstance(one, Known):
                        future.set_result(one)
                    else:
                        future.set_exception(one)
        finally:
            self._reading = None

    async def _found(self, users: Mapping[str, int]) -> Mapping[str, Known | Exception]:
        try:
            return await self._read(users)
        except GenrecError as error:
            if len(users) == 1:
                return dict.fromkeys(users, error)
        except Exception as error:
            return dict.fromkeys(users, error)
        found: dict[str, Known | Exception] = {}  # one of them is no user id: the others are read
        for user, last in users.items():
            found |= await self._found({user: last})
        return found
