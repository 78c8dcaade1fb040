"""Turn Ctrl-C and SIGTERM into a stop request that is handled between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Wish:
    """A stop request: `to_stop` is true once the run has to stop."""

    to_stop: bool = False


@contextmanager
def on_request() -> Iterator[Wish]:
    """Within this context the first SIGINT or SIGTERM requests a stop; a second one acts at once.

    An ignored signal, e.g. under nohup or in a worker process, stays ignored.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        wish.to_stop = True
        restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield wish
    finally:
        restore()
