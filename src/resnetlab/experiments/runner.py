"""Run cells in worker processes, several at a time where one does not fill the machine."""

import functools
import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.cell import Cell, run
from resnetlab.experiments.execution import Execution, choose_device
from resnetlab.experiments.material import Data, load_data
from resnetlab.experiments.progress import Progress
from resnetlab.training.distributed import World, joined
from resnetlab.training.interrupt import Interrupted, Wish, on_request
from resnetlab.training.loop import DivergedError

PROGRESS_EVERY_SECONDS = 0.1
FILL_A_GPU = 4  # runs


@dataclass(frozen=True)
class Update:
    """News of one cell, by the name of its run folder."""

    name: str
    progress: Progress | None = None
    ended: Literal["finished", "interrupted", "failed"] | None = None
    message: str = ""


def run_cells(cells: dict[str, Cell], root: Path, execution: Execution, jobs: int) -> Iterator[Update]:
    """Run every cell in `root/<name>`, at most `jobs` at a time, the longest first; finished ones end at once.

    On a processor each has a process; on a GPU they share one, and each has a stream. A cell that fails does not stop
    the others. On Ctrl-C each running cell is saved and ends as interrupted. Under torchrun all processes run one
    cell after the other together.
    """
    if World.here().size > 1:
        yield from _in_all_processes(cells, root, execution)
        return
    execution = replace(execution, jobs=jobs)
    longest_first = sorted(cells, key=lambda name: -cells[name].network.depth * cells[name].recipe.iterations)
    order = longest_first if jobs > 1 else list(cells)
    on_gpu = choose_device(execution.device).type == "cuda"
    waiting = [order] if on_gpu else [[name] for name in order]
    processes, at_once = (1, jobs) if on_gpu else (jobs, 1)
    context = multiprocessing.get_context("spawn")
    updates: multiprocessing.Queue[Update] = context.Queue()
    running: dict[str, BaseProcess] = {}
    asked_to_stop = False
    try:
        with on_request() as wish:
            while running or (waiting and not wish.to_stop):
                while waiting and len(set(running.values())) < processes and not wish.to_stop:
                    group = {name: cells[name] for name in waiting.pop(0)}
                    process = context.Process(
                        target=_work, args=(group, root, execution, at_once, updates), daemon=True
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


def together(cells: dict[str, Cell], root: Path, execution: Execution, at_once: int, wish: Wish) -> Iterator[Update]:
    """Run cells in this process, step by step in turn; on a GPU each on a stream of its own, where they overlap."""
    on_gpu = choose_device(execution.device).type == "cuda"
    load_once = functools.cache(load_data)
    waiting = list(cells.items())
    running: dict[str, tuple[Iterator[Progress], Any]] = {}
    while running or (waiting and not wish.to_stop):
        while waiting and len(running) < at_once and not wish.to_stop:
            name, cell = waiting.pop(0)
            stream = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
            running[name] = _begin(cell, root / name, execution, wish, load_once), stream
        for name, (steps, stream) in list(running.items()):
            update = _advance(name, steps, stream)
            if update.ended:
                del running[name]
            yield update
    for name, _ in waiting:
        yield Update(name, ended="interrupted", message="not started")


def _in_all_processes(cells: dict[str, Cell], root: Path, execution: Execution) -> Iterator[Update]:
    place = World.here().device(choose_device(execution.device).type)
    with joined(place), on_request() as wish:
        yield from together(cells, root, execution, 1, wish)


def default_jobs(cells: dict[str, Cell], side_by_side: bool, device: torch.device) -> int:
    """Cells at a time: as many as fill a GPU; one a core where one cannot use more than a core; else one."""
    if device.type == "cuda":
        return min(len(cells), FILL_A_GPU)
    return max(1, min(len(cells), torch.get_num_threads())) if side_by_side else 1


def _start(process: BaseProcess) -> None:
    """Start a worker that ignores Ctrl-C, which reaches it too: the parent is the one to ask it to stop."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)


def _next(updates: Any, running: dict[str, BaseProcess], asked_to_stop: bool) -> Iterator[Update]:
    """The next update, after a short wait; a process that died without a word has failed, or was just starting."""
    try:
        yield updates.get(timeout=0.2)
    except queue.Empty:
        for name, process in list(running.items()):
            if not process.is_alive() and updates.empty():
                message = f"its process died with exit status {process.exitcode}; the same command goes on"
                yield Update(name, ended="interrupted" if asked_to_stop else "failed", message=message)


def _begin(
    cell: Cell, folder: Path, execution: Execution, wish: Wish, load_once: Callable[..., Data]
) -> Iterator[Progress]:
    """The cell's run, which asks for its images when it is first advanced."""
    yield from run(
        cell, folder, execution, load_once(cell.source, cell.data_dir, cell.image_size, cell.recipe.crop), wish
    )


def _advance(name: str, steps: Iterator[Progress], stream: Any) -> Update:
    """The next step of a run, or how it ended."""
    try:
        with torch.cuda.stream(stream):  # None leaves everything as it is
            return Update(name, next(steps))
    except StopIteration:
        return Update(name, ended="finished")
    except Interrupted as stopped:
        return Update(name, ended="interrupted", message=str(stopped))
    except (ResnetlabError, DivergedError, OSError, RuntimeError) as error:
        return Update(name, ended="failed", message=f"{error}")


def _work(cells: dict[str, Cell], root: Path, execution: Execution, at_once: int, updates: Any) -> None:
    """A worker process: run cells and report; end, saved, when the parent is gone."""
    parent = multiprocessing.parent_process()
    told = dict.fromkeys(cells, 0.0)
    with on_request() as wish:
        for update in together(cells, root, execution, at_once, wish):
            progress = update.progress
            due = time.monotonic() - told[update.name] > PROGRESS_EVERY_SECONDS
            if progress is None or due or progress.message or progress.step == progress.iterations:
                told[update.name] = time.monotonic()
                updates.put(update)
                if parent is not None and not parent.is_alive() and not wish.to_stop:
                    updates.cancel_join_thread()  # nobody reads them any more
                    signal.raise_signal(signal.SIGTERM)
