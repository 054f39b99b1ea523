"""The searches of a load test without a server: the same requests, in full batches of a bundle's engine."""

import collections
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from genrec.data.filters import Filter
from genrec.serving import requests
from genrec.serving.load.mix import RequestSource
from genrec.serving.queries import Options, PreparedQuery, Program
from genrec.serving.served_engine import Query, ServedEngine
from genrec.serving.server import batching


class Searches:
    """An engine of a bundle, and the source of its requests."""

    def __init__(self, bundle: epath.PathLike, source: RequestSource, threads: int = 0):
        """`threads` search at a time, by default as many as those of a server."""
        batching.compute_in_own_thread()
        self._engine, self._source = ServedEngine.load(bundle), source
        self._threads = threads or batching.usual_threads()
        self._drawing = threading.Lock()
        self._engine.warm_up()

    @property
    def largest_batch(self) -> int:
        """Requests that are searched together at most."""
        return self._engine.batch_sizes[-1]

    def measure(self, seconds: float) -> dict[str, float]:
        """Searches for `seconds`; returns requests per second by batch size."""
        sizes = self._engine.batch_sizes
        return {str(size): self._throughput(size, seconds / len(sizes)) for size in sizes}

    def _throughput(self, size: int, seconds: float) -> float:
        with ThreadPoolExecutor(self._threads) as pool:
            return sum(pool.map(lambda _: self._throughput_of_thread(size, seconds), range(self._threads)))

    def _throughput_of_thread(self, size: int, seconds: float) -> float:
        waiting: dict[Program, list[PreparedQuery]] = collections.defaultdict(list)
        searched, start = 0, time.perf_counter()
        while (now := time.perf_counter()) < start + seconds or not searched:
            with self._drawing:
                request = self._source.draw().request
            prepared = self._engine.prepare(self._query(request))
            batch = waiting[prepared.program]
            batch.append(prepared)
            if len(batch) == size:
                searched += len(self._engine.search(batch))
                batch.clear()
        return searched / (now - start)

    def _query(self, request: dict[str, Any]) -> Query:
        rows = requests.catalogue_rows(self._engine.catalogue, request["history"])
        return Query(
            requests.Request(request["user"], rows, prompt=request.get("prompt", "")),
            Options(top=request["top"], exclude_history=request["exclude_history"]),
            Filter.parse(request.get("filters", ())),
        )
