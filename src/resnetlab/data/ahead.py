"""Ordered parallel map over threads with bounded read-ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """Yield `work(item)` in the order of the items, with at most `ahead` results started or waiting.

    An error in `work` is raised in place of its result, and the remaining work is cancelled.
    """
    waiting: deque[Future[R]] = deque()
    todo = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                waiting.extend([pool.submit(work, item) for item in islice(todo, ahead - len(waiting))])
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
