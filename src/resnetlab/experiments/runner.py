"""Run cells in worker processes, several at a time where one does not fill the machine."""

import multiprocessing
import queue
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.cell import Cell, Progress, run
from resnetlab.experiments.execution import Execution
from resnetlab.training.interrupt import Interrupted, on_request
from resnetlab.training.loop import DivergedError

PROGRESS_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Update:
    """News of one cell, by the name of its run folder."""

    name: str
    progress: Progress | None = None
    ended: Literal["finished", "interrupted", "failed"] | None = None
    message: str = ""


def run_cells(cells: dict[str, Cell], root: Path, execution: Execution, jobs: int) -> Iterator[Update]:
    """Run every cell in `root/<name>`, at most `jobs` at a time, the longest first; finished ones end at once.

    A cell that fails does not stop the others. On Ctrl-C each running cell is saved and ends as interrupted.
    """
    execution = replace(execution, jobs=jobs)
    longest_first = sorted(cells, key=lambda name: -cells[name].network.depth * cells[name].recipe.iterations)
    waiting = longest_first if jobs > 1 else list(cells)
    context = multiprocessing.get_context("spawn")
    updates: multiprocessing.Queue[Update] = context.Queue()
    running: dict[str, BaseProcess] = {}
    asked_to_stop = False
    try:
        with on_request() as wish:
            while running or (waiting and not wish.to_stop):
                while waiting and len(running) < jobs and not wish.to_stop:
                    name = waiting.pop(0)
                    running[name] = context.Process(
                        target=_work, args=(name, cells[name], root / name, execution, updates), daemon=True
                    )
                    _start(running[name])
                if wish.to_stop and not asked_to_stop:
                    asked_to_stop = True
                    for process in running.values():
                        process.terminate()  # the worker saves and ends
                for update in _next(updates, running, asked_to_stop):
                    if update.ended:
                        running.pop(update.name).join()
                    yield update
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def default_jobs(cells: dict[str, Cell], side_by_side: bool, device: torch.device) -> int:
    """One cell at a time, or as many as there are cores where one cannot use more than a core."""
    return max(1, min(len(cells), torch.get_num_threads())) if side_by_side and device.type == "cpu" else 1


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


def _work(name: str, cell: Cell, folder: Path, execution: Execution, updates: Any) -> None:
    """A worker process: run one cell and report; end, saved, when the parent is gone."""
    parent = multiprocessing.parent_process()
    told = 0.0
    try:
        for progress in run(cell, folder, execution):
            if (
                progress.message
                or progress.step == progress.iterations
                or time.monotonic() - told > PROGRESS_EVERY_SECONDS
            ):
                told = time.monotonic()
                updates.put(Update(name, progress))
                if parent is not None and not parent.is_alive():
                    updates.cancel_join_thread()  # nobody reads them any more
                    signal.raise_signal(signal.SIGTERM)
        updates.put(Update(name, ended="finished"))
    except Interrupted as stopped:
        updates.put(Update(name, ended="interrupted", message=str(stopped)))
    except (ResnetlabError, DivergedError, OSError, RuntimeError) as error:
        updates.put(Update(name, ended="failed", message=f"{error}"))
