"""Processes to kill, to fill the disk of, or to train together: forked from one that has imported everything.

A new interpreter takes seconds to import PyTorch; these start in a fraction of one.
"""

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "resnetlab.experiments.catalogue",
        "resnetlab.cli.terminal",
        "resnetlab.inference.engines",
        "resnetlab.report.evaluation_files",
        "resnetlab.report.figures",
        "sklearn.datasets",
        "torch.distributed.nn.functional",
    ]
)
PATIENCE = 120.0  # seconds; only a hang takes as long


@dataclass
class Child:
    """A process, and the file with all that it printed."""

    process: BaseProcess
    output: Path

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def text(self) -> str:
        """What it printed so far."""
        return self.output.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit status; minus the signal that ended it."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {PATIENCE} s: {self.text()}")
        return self.process.exitcode


def start(
    call: Callable[..., object],
    *arguments: Any,
    folder: Path,
    environment: dict[str, str] | None = None,
    largest_file: int | None = None,
) -> Child:
    """Call a function of a module in a process of its own, in a folder; `largest_file` is in bytes."""
    output = folder / f"output-{time.monotonic_ns()}.txt"
    output.touch()
    process = CONTEXT.Process(target=_run, args=(call, arguments, folder, output, environment or {}, largest_file))
    process.start()
    return Child(process, output)


def resnetlab(*words: str, folder: Path, save_every: float | None = None, **options: Any) -> Child:
    """The command with these words; it saves a checkpoint every so many seconds."""
    return start(command, list(words), save_every, folder=folder, **options)


def command(words: Sequence[str], save_every: float | None = None) -> None:
    """What a child calls."""
    from resnetlab.cli import main
    from resnetlab.runs import folder

    if save_every is not None:
        folder.SAVE_EVERY_SECONDS = save_every
    sys.argv = ["resnetlab", *words]
    main()


def in_two(call: Callable[..., object], *arguments: Any, folder: Path) -> list[Child]:
    """The same in two processes that train together, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(call, *arguments, folder=folder, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def wait_until(holds: Callable[[], bool], child: Child | None = None) -> None:
    """Wait for something that a child does; it must not end before."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        assert child is None or child.running, child.text()
        time.sleep(0.002)


def _run(
    call: Callable[..., object],
    arguments: Sequence[Any],
    folder: Path,
    output: Path,
    environment: dict[str, str],
    largest_file: int | None,
) -> None:
    from resnetlab.cli import common

    os.chdir(folder)
    os.environ |= environment
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    common.main_process = os.environ.get("RANK", "0") == "0"  # as it would be in a new interpreter
    common.console.quiet = not common.main_process
    call(*arguments)
