"""What a person at the terminal sees: live progress of runs, tables."""

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table as Grid

from resnetlab.experiments.progress import Progress
from resnetlab.report.tables import Table

PLAIN_EVERY_SECONDS = 15.0
DRAWN_EVERY_SECONDS = 0.1  # a step may take less than drawing it


class Monitor:
    """One line a run: network, steps, training and test error, time left; without a terminal a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("step"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[errors]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._drawn: dict[str, float] = {}

    def __enter__(self) -> "Monitor":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, label: str, iterations: int) -> None:
        """A run that will come, so that its line stands in its place."""
        self._tasks[label] = self._bars.add_task(label, total=iterations, start=False, errors="waiting", left="")

    def show(self, label: str, progress: Progress) -> None:
        """News of the run with this label."""
        if progress.message:
            self.say(f"{label}: {progress.message}")
        now, done = time.monotonic(), progress.step == progress.iterations
        if not (done or progress.message or now - self._drawn.get(label, 0.0) > DRAWN_EVERY_SECONDS):
            return
        self._drawn[label] = now
        errors = _errors(progress)
        if label not in self._tasks:
            self.expect(label, progress.iterations)
        self._bars.start_task(self._tasks[label])
        left = "" if progress.left is None else f"{timedelta(seconds=round(progress.left))}"
        left = f"took {timedelta(seconds=round(self._bars.tasks[self._tasks[label]].elapsed or 0))}" if done else left
        self._bars.update(self._tasks[label], completed=progress.step, errors=errors, left=left)
        if not self.console.is_terminal and (done or now - self._told.setdefault(label, now) > PLAIN_EVERY_SECONDS):
            self._told[label] = now
            ahead = f", {left} left" if left and not done else ""
            self.say(f"{label}: step {progress.step:,} of {progress.iterations:,}, {errors}{ahead}")

    def say(self, text: str) -> None:
        """A line that stays above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """The table, its protocol under it."""
    grid = Grid(*table.header)
    for k, column in enumerate(grid.columns):
        column.overflow = "fold"  # a number that is cut off is none
        column.justify = "right" if all(_numeric(row[k]) for row in table.rows) else "left"
    for row in table.rows:
        grid.add_row(*row)
    console.print(grid)
    if table.protocol:
        console.print(table.protocol, style="dim", highlight=False)


def _numeric(text: str) -> bool:
    return text[:1] in "0123456789+-"


def _errors(progress: Progress) -> str:
    speed = f", {progress.speed}" if progress.speed else ""
    if progress.train_error is None or progress.test_error is None:
        return "not yet tested" + speed
    return f"training error {progress.train_error:5.2f} %, test {progress.test_error:5.2f} %{speed}"
