"""Time as the device itself counts it: a GPU's events, a processor's clock.

On a processor with one thread it is the time that the thread was at work, so that other programs that take their turn
there are not counted; with several threads, which wait for one another, it is the time that passes.
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

Mark = float | torch.cuda.Event
MOST_CALLS = 100
QUEUE_CYCLES = 20_000_000  # about 10 ms of a GPU: in this time the calls that are to be timed are launched


def mark(device: torch.device) -> Mark:
    """This moment. On a GPU, the moment when all that was launched so far is done."""
    if device.type != "cuda":
        return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def clock(device: torch.device) -> str:
    """What is counted, in words."""
    if device.type == "cuda":
        return "the card's own time"
    return "time of the thread at work" if torch.get_num_threads() == 1 else "time that passes"


def intervals(marks: Sequence[Mark]) -> list[float]:
    """Seconds from each mark to the next."""
    last = marks[-1]
    if isinstance(last, torch.cuda.Event):
        last.synchronize()
    return [_seconds(begin, end) for begin, end in pairwise(marks)]


def calls_for(seconds: float, one: float) -> int:
    """How many calls of `one` second each make a block of about so many seconds."""
    return max(1, min(MOST_CALLS, math.ceil(seconds / max(one, 1e-9))))


def timed(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds a call, over a block of calls that takes about `seconds`, after one that does not count.

    A GPU is kept busy until the calls are launched, so that it is its own time and not the launching's.
    """
    count = calls_for(seconds, _block(call, device, 1))
    return _block(call, device, count) / count


def _block(call: Callable[[], object], device: torch.device, count: int) -> float:
    if device.type == "cuda":
        torch.cuda._sleep(QUEUE_CYCLES)  # type: ignore[no-untyped-call]
    begin = mark(device)
    for _ in range(count):
        call()
    return sum(intervals([begin, mark(device)]))


def _seconds(begin: Mark, end: Mark) -> float:
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        milliseconds: float = begin.elapsed_time(end)
        return milliseconds / 1000
    assert isinstance(begin, float)  # noqa: S101
    assert isinstance(end, float)  # noqa: S101
    return end - begin
