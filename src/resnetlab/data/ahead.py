"""Work that threads do ahead of when it is asked for, in order, and never too far ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """`work` of each item, in the order of the items, at most `ahead` of them done or begun before they are taken.

    An error of the work is raised where its result would have come; then the rest is dropped.
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
