"""Measure time: with events on a GPU, with a clock on a CPU.

On a CPU with one thread it is the thread's CPU time, which excludes other programs; with several threads, which wait
for each other, it is wall time.
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

Mark = float | torch.cuda.Event
MOST_CALLS = 100
QUEUE_CYCLES = 20_000_000  # about 10 ms on a GPU, in which the timed calls are launched


def mark(device: torch.device) -> Mark:
    """The current time. On a GPU, an event after all work launched so far."""
    if device.type == "mps":
        torch.mps.synchronize()
        return time.perf_counter()
    if device.type != "cuda":
        return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def clock(device: torch.device) -> str:
    """Which time is measured, as text."""
    if device.type == "cuda":
        return "the card's own time"
    is_thread = device.type == "cpu" and torch.get_num_threads() == 1
    return "time of the thread at work" if is_thread else "time that passes"


def intervals(marks: Sequence[Mark]) -> list[float]:
    """Seconds from each mark to the next."""
    last = marks[-1]
    if isinstance(last, torch.cuda.Event):
        last.synchronize()
    return [_seconds(begin, end) for begin, end in pairwise(marks)]


def calls_for(seconds: float, one: float) -> int:
    """How many calls of `one` seconds make a block of about `seconds`."""
    return max(1, min(MOST_CALLS, math.ceil(seconds / max(one, 1e-9))))


def timed(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds per call, over a block of calls of about `seconds`, after one warm-up call.

    A GPU is kept busy until all calls are launched, so that launch time does not count.
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
