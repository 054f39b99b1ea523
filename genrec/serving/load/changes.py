"""Changes of the catalogue while requests are answered: no item may be returned after its removal was acknowledged."""

import asyncio
import collections
import time
import urllib.parse
from typing import Any

import numpy as np

from genrec.data.dataset import Catalogue
from genrec.serving.load.client import Answer, Client, LoadTestError
from genrec.serving.load.mix import column_values
from genrec.serving.load.tally import item_ids, milliseconds

NEW = "load-test-"  # prefix of the ids of items that are added
CHANGED = 0.05  # share of the catalogue that is kept removed, and of new items that are kept: lists differ by them


class Changes:
    """Removes items that were just returned and puts them back, adds and removes new ones, and changes attributes."""

    def __init__(self, client: Client, catalogue: Catalogue, vectors: np.ndarray | None, settle: float, seed: int = 0):
        """Items are added by their `vectors` float[items, width]; None: by their texts. `settle` is in seconds.

        A removal counts `settle` after its acknowledgment: replicas learn of each other's changes from the store.
        """
        self._client, self._vectors, self._settle = client, vectors, settle
        self._rows = catalogue.index
        names = [name for name in catalogue.table.column_names if name not in ("item_id", "source_row", "vector")]
        self._fields = catalogue.table.select(names)
        self._attributes = sorted({name for name, _, _ in column_values(catalogue)})
        self._ids, self._random = catalogue.item_ids, np.random.default_rng(seed)
        self._returned: collections.deque[str] = collections.deque(maxlen=1000)
        self._removed: dict[str, float] = {}  # item -> when its removal was acknowledged
        self._added: collections.deque[str] = collections.deque()  # new items, the earliest first
        self._kept = int(CHANGED * len(self._ids))
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)  # by kind
        self.errors: collections.Counter[str] = collections.Counter()
        self.returned_after_removal = 0

    def watch(self, answer: Answer, sent: float) -> str:
        """Returns what is wrong with the list of a request that was sent at `sent`: a removed item."""
        items = item_ids(answer)
        self._returned.extend(item for item in items if item in self._rows)
        away = [item for item in items if self._removed.get(item, sent) + self._settle < sent]
        self.returned_after_removal += len(away)
        return "a removed item was returned" if away else ""

    async def run(self, number: int, rate: float) -> None:
        """Makes `number` changes, at most `rate` per second, one after another; then restores the catalogue."""
        start = time.perf_counter()
        steps = (self._remove, self._add, self._restore, self._withdraw, self._change)
        for count in range(number):
            await asyncio.sleep(max(start + count / rate - time.perf_counter(), 0))
            await steps[count % len(steps)](count)
        await self.restore()

    async def restore(self) -> None:
        """Puts back what was removed, and removes what was added."""
        for item in [item for item in self._removed if item in self._rows]:
            await self._put_back(item)
        while self._added:
            await self._take_away(self._added.popleft())

    async def _remove(self, count: int) -> None:
        while self._returned:
            if (item := self._returned.pop()) not in self._removed:
                return await self._take_away(item)
        return await self._take_away(self._present())

    async def _take_away(self, item: str) -> None:
        if await self._send("remove", "DELETE", item):
            self._removed[item] = time.perf_counter()

    async def _restore(self, count: int) -> None:
        away = [item for item in self._removed if item in self._rows]
        await (self._put_back(away[0]) if len(away) > self._kept else self._change(count))

    async def _put_back(self, item: str) -> None:
        del self._removed[item]  # it may be returned as soon as the server has the request
        await self._send("add", "PUT", item, self._body(self._rows[item]))

    async def _add(self, count: int) -> None:
        item = f"{NEW}{count}"
        if await self._send("add", "PUT", item, self._body(int(self._random.integers(len(self._ids))))):
            self._added.append(item)

    async def _withdraw(self, count: int) -> None:
        enough = len(self._added) > self._kept
        await (self._take_away(self._added.popleft()) if enough else self._change(count))

    async def _change(self, count: int) -> None:
        item = self._present()
        fields = self._body(self._rows[item])["fields"]
        if attributes := {name: fields[name] for name in self._attributes if name in fields}:
            await self._send("change", "PATCH", item, {"fields": attributes})

    def _present(self) -> str:
        """Returns a random item of the catalogue that is not removed."""
        while (item := str(self._random.choice(self._ids))) in self._removed:
            pass
        return item

    def _body(self, row: int) -> dict[str, Any]:
        (fields,) = self._fields.slice(row, 1).to_pylist()
        known = {name: value for name, value in fields.items() if isinstance(value, bool | int | float | str | list)}
        return {"fields": known} | ({} if self._vectors is None else {"vector": self._vectors[row].tolist()})

    async def _send(self, kind: str, method: str, item: str, body: object = None) -> bool:
        start = time.perf_counter()
        answer = await self._client.request(method, f"/v1/items/{urllib.parse.quote(item, safe='')}", body)
        if answer.status in (401, 403):
            raise LoadTestError("changes of the catalogue need an administrator's token: give --token_file.")
        self.seconds[kind].append(time.perf_counter() - start)
        if answer.status not in (200, 201, 204):
            self.errors[f"{kind}: {answer.status or answer.broken}"] += 1
            return False
        return True

    def summary(self) -> dict[str, Any]:
        """Returns the figures, for JSON."""
        return {
            "made": sum(map(len, self.seconds.values())),
            "errors": dict(self.errors),
            "returned_after_removal": self.returned_after_removal,
            **{f"{kind}_ms": milliseconds(taken) for kind, taken in sorted(self.seconds.items())},
        }
