"""Live progress of runs, and tables, on the terminal."""

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.table import Table as Grid

from resnetlab.cli.common import PLAIN_EVERY_SECONDS, console, print_table, say, shown, watched
from resnetlab.report.record import Table
from resnetlab.runs.progress import Progress
from resnetlab.runs.several import Update

T = TypeVar("T")
DRAWN_EVERY_SECONDS = 0.1  # a step can take less time than drawing
NARROW = 100  # columns; narrower terminals get no progress bars


class Monitor:
    """One line per run: network, steps, metrics, remaining time; without a terminal, a new line every 15 s."""

    def __init__(self, console: Console) -> None:
        self.console = console
        bar = [BarColumn(bar_width=24)] if console.width >= NARROW else []
        self._labels = Column(no_wrap=True)
        self._bars = Bars(
            TextColumn("{task.description}", table_column=self._labels),
            *bar,
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=len("600000/600000"))),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=len("11:22:33 left"))),
            TextColumn("{task.fields[numbers]}", table_column=Column(overflow="ellipsis", no_wrap=True)),
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
        """Add a waiting run, to fix the order of the lines; on a narrow terminal numbers are cut, not labels."""
        self._labels.min_width = min(max(self._labels.min_width or 0, len(label)), self.console.width // 3)
        self._tasks[label] = self._bars.add_task(label, total=iterations, start=False, numbers="waiting", left="")

    def show(self, label: str, progress: Progress) -> None:
        """Update the line of the run with this label."""
        if progress.message:
            self.say(f"{label}: {progress.message}")
        now, done = time.monotonic(), progress.step == progress.iterations
        if not (done or progress.message or now - self._drawn.get(label, 0.0) > DRAWN_EVERY_SECONDS):
            return
        self._drawn[label] = now
        speed = f", {progress.speed}" if progress.speed else ""
        numbers = progress.numbers + speed
        if label not in self._tasks:
            self.expect(label, progress.iterations)
        self._bars.start_task(self._tasks[label])
        left = "" if progress.left is None else f"{timedelta(seconds=round(progress.left))} left"
        left = f"took {timedelta(seconds=round(self._bars.tasks[self._tasks[label]].elapsed or 0))}" if done else left
        self._bars.update(self._tasks[label], completed=progress.step, numbers=numbers, left=left)
        late = now - self._told.setdefault(label, now) > PLAIN_EVERY_SECONDS
        if not self.console.is_terminal and not progress.message and (done or late):
            self._told[label] = now
            ahead = f", {left}" if left and not done else ""
            self.say(f"{label}: step {progress.step:,} of {progress.iterations:,}, {numbers}{ahead}")

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(shown(text), highlight=False, soft_wrap=True, markup=False)


class Terminal:
    """The `Listener` of an experiment that prints to the terminal."""

    def say(self, text: str) -> None:
        """Print a line."""
        say(text)

    def show(self, table: Table) -> None:
        """Print a table."""
        print_table(table)

    def watched(self, items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        """Yield the items and show progress."""
        return watched(items, what, total)

    @contextmanager
    def runs(self, labels: Mapping[str, str], lengths: Mapping[str, int]) -> Iterator[Callable[[Update], None]]:
        """A context whose callback gets updates of runs."""
        with Monitor(console) as monitor:
            for name, label in labels.items():
                monitor.expect(label, lengths[name])

            def tell(update: Update) -> None:
                if update.progress:
                    monitor.show(labels[update.name], update.progress)
                if update.ended and update.ended != "finished":
                    monitor.say(f"{labels[update.name]}: {update.ended}: {update.message}")

            yield tell


def grid(table: Table, width: int) -> Grid:
    """The table for printing: numbers are never broken; if it is too wide for the terminal, one line per cell."""
    found, least = Grid(), 1
    single = 1 + sum(3 + max(map(len, column)) for column in zip(table.header, *table.rows, strict=True))
    columns = zip(*table.rows, strict=True) if table.rows else ()
    for name, cells, numeric in zip(table.header, columns, table.numeric, strict=False):
        widest = max(len(line) for cell in cells for line in cell.splitlines() or ("",))
        longest_word = max(map(len, [*name.split(), ""]))
        kept = max(widest, longest_word) if numeric else longest_word
        least += 3 + kept
        header = textwrap.fill(name, max(kept, 1)) if numeric and single > width else name
        found.add_column(
            header, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold", min_width=kept
        )
    for row in table.rows:
        found.add_row(*map(shown, row))
    return found if least <= width or len(table.header) < 3 else _turned(table)


def _turned(table: Table) -> Grid:
    """One line per cell below the row's name, for narrow terminals."""
    found = Grid(table.header[0], "", "")
    for row in table.rows:
        for k, (name, cell) in enumerate(zip(table.header[1:], row[1:], strict=True)):
            found.add_row(shown(row[0]) if k == 0 else "", name, shown(cell), end_section=k == len(row) - 2)
    return found
