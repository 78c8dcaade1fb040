"""Run the network for several requests at once: while a batch runs, further images wait, and are the next batch."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Waiting = tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class Batcher:
    """One thread that runs the network, on all images that wait, at most `most` at a time.

    Nobody waits for a batch to be full: a single image is run at once.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._working is not None  # noqa: S101 -- for the type checker
        self._working.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """What the network gives of the fitted pixels (h, w, c) of one image."""
        found: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((pixels, found))
        return await found

    async def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function in the thread of the network, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(pixels, found) for pixels, found in batch if not found.done()]  # they took too long
            if not batch:
                continue
            try:
                rows = await self.call(self._run, np.stack([pixels for pixels, _ in batch]))
            except Exception as error:  # of the network: those who wait get it
                for _, found in batch:
                    if not found.done():
                        found.set_exception(error)
            else:
                for (_, found), row in zip(batch, rows, strict=True):
                    if not found.done():
                        found.set_result(row)
