"""Execute several runs, in worker processes if one run does not use the whole machine."""

import functools
import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from resnetlab.data.dataset import Dataset
from resnetlab.data.named import DataSource
from resnetlab.errors import DivergedError, Interrupted, ResnetlabError
from resnetlab.runs.progress import Progress
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings, choose_device
from resnetlab.runs.spec import RunSpec
from resnetlab.training.distributed import World, joined
from resnetlab.training.interrupt import Wish, on_request

PROGRESS_EVERY_SECONDS = 0.1
FILL_A_GPU = 4  # runs


@dataclass(frozen=True)
class Update:
    """Progress or the end of one run; `name` is its folder's name."""

    name: str
    progress: Progress | None = None
    ended: Literal["finished", "interrupted", "failed"] | None = None
    message: str = ""


def run_all(specs: dict[str, RunSpec], root: Path, settings: Settings, jobs: int) -> Iterator[Update]:
    """Execute every spec in `root/<name>`, at most `jobs` at a time, longest first; finished runs end at once.

    On a CPU each run has its own process (unless jobs is 1); on a GPU the runs share a process, each with its own
    stream. A failed run does not stop the others. On Ctrl-C all are saved and end as interrupted. Under torchrun all
    processes execute the runs together, one after the other.
    """
    settings = settings.shared_by(jobs)
    if World.here().size > 1 or (jobs == 1 and not _any_compiled(specs, settings)):
        yield from _in_this_process(specs, root, settings)
        return
    longest_first = sorted(specs, key=lambda name: -specs[name].architecture.depth * specs[name].recipe.iterations)
    order = longest_first if jobs > 1 else list(specs)
    on_gpu = choose_device(settings.device).type == "cuda"
    waiting = [order] if on_gpu else [[name] for name in order]
    processes, at_once = (1, jobs) if on_gpu else (jobs, 1)
    context = _context()
    updates: Any = context.Queue()
    running: dict[str, BaseProcess] = {}
    asked_to_stop = False
    try:
        with on_request() as wish:
            while running or (waiting and not wish.to_stop):
                while waiting and len(set(running.values())) < processes and not wish.to_stop:
                    group = {name: specs[name] for name in waiting.pop(0)}
                    process = context.Process(
                        target=_work, args=(group, root, settings, at_once, updates), daemon=True
                    )
                    running |= dict.fromkeys(group, process)
                    _start(process)
                if wish.to_stop and not asked_to_stop:
                    asked_to_stop = True
                    for worker in set(running.values()):
                        worker.terminate()  # the worker saves and ends
                for update in _next(updates, running, asked_to_stop):
                    if update.ended:
                        worker = running.pop(update.name)
                        if worker not in running.values():
                            worker.join()
                    yield update
    finally:
        for worker in set(running.values()):
            worker.terminate()
            worker.join()


def together(specs: dict[str, RunSpec], root: Path, settings: Settings, at_once: int, wish: Wish) -> Iterator[Update]:
    """Execute runs in this process, alternating by step; on a GPU each has its own stream, so that they overlap."""
    on_gpu = choose_device(settings.device).type == "cuda"
    load_once = functools.cache(DataSource.load)
    waiting = list(specs.items())
    running: dict[str, tuple[Iterator[Progress], Any]] = {}
    while running or (waiting and not wish.to_stop):
        while waiting and len(running) < at_once and not wish.to_stop:
            name, spec = waiting.pop(0)
            stream = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
            running[name] = _begin(spec, root / name, settings, wish, load_once), stream
        for name, (steps, stream) in list(running.items()):
            update = _advance(name, steps, stream)
            if update.ended:
                del running[name]
            yield update
    for name, _ in waiting:
        yield Update(name, ended="interrupted", message="not started")


def _in_this_process(specs: dict[str, RunSpec], root: Path, settings: Settings) -> Iterator[Update]:
    place = World.here().device(choose_device(settings.device).type)
    with joined(place), on_request() as wish:
        yield from together(specs, root, settings, 1, wish)


def _any_compiled(specs: dict[str, RunSpec], settings: Settings) -> bool:
    """Whether a run is compiled: then each run needs its own process, because the compiler's cache is per process."""
    return any(settings.settle(s.recipe, s.architecture.depth, None)["compiled"] for s in specs.values())


def _context() -> Any:
    """How worker processes start: from a fork server that has imported this module, if the system has one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def default_jobs(specs: dict[str, RunSpec], side_by_side: bool, device: torch.device) -> int:
    """Concurrent runs: enough to fill a GPU; one per core if a run cannot use more than a core; otherwise one."""
    if device.type == "cuda":
        return min(len(specs), FILL_A_GPU)
    return max(1, min(len(specs), torch.get_num_threads())) if side_by_side else 1


def _start(process: BaseProcess) -> None:
    """Start a worker that ignores Ctrl-C, which reaches it too; the parent tells it to stop."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)


def _next(updates: Any, running: dict[str, BaseProcess], asked_to_stop: bool) -> Iterator[Update]:
    """The next update, after a short wait; a process that died without an update failed or was interrupted."""
    try:
        yield updates.get(timeout=0.2)
    except queue.Empty:
        for name, process in list(running.items()):
            if not process.is_alive() and updates.empty():
                message = f"its process died with exit status {process.exitcode}; the same command continues"
                yield Update(name, ended="interrupted" if asked_to_stop else "failed", message=message)


def _begin(
    spec: RunSpec, folder: Path, settings: Settings, wish: Wish, load_once: Callable[[DataSource, bool], Dataset]
) -> Iterator[Progress]:
    """The run; it loads its images on the first step."""
    yield from run(spec, folder, settings, load_once(spec.data, spec.recipe.resident), wish)


def _advance(name: str, steps: Iterator[Progress], stream: Any) -> Update:
    """Advance a run by one step; its progress, or how it ended."""
    try:
        with torch.cuda.stream(stream):  # None changes nothing
            return Update(name, next(steps))
    except StopIteration:
        return Update(name, ended="finished")
    except Interrupted as stopped:
        return Update(name, ended="interrupted", message=str(stopped))
    except (ResnetlabError, DivergedError, OSError, RuntimeError) as error:
        return Update(name, ended="failed", message=f"{error}")


def _work(specs: dict[str, RunSpec], root: Path, settings: Settings, at_once: int, updates: Any) -> None:
    """A worker process: execute specs and send updates; save and end if the parent has ended."""
    parent = multiprocessing.parent_process()
    told = dict.fromkeys(specs, 0.0)
    with on_request() as wish:
        for update in together(specs, root, settings, at_once, wish):
            progress = update.progress
            due = time.monotonic() - told[update.name] > PROGRESS_EVERY_SECONDS
            if progress is None or due or progress.message or progress.step == progress.iterations:
                told[update.name] = time.monotonic()
                updates.put(update)
                if parent is not None and not parent.is_alive() and not wish.to_stop:
                    updates.cancel_join_thread()  # nobody reads them any more
                    signal.raise_signal(signal.SIGTERM)
