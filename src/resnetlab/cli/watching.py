"""`resnetlab watch`: runs in progress, live."""

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resnetlab.cli.command import command
from resnetlab.cli.common import console, runs_in, say, shown
from resnetlab.cli.textchart import COLOURS, text_chart
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    from resnetlab.runs.listing import Listed

HEIGHT = 12  # lines of the chart
MOST_SHOWN = len(COLOURS)


@command
def watch(
    places: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="Default: runs")
    ] = (),
    /,
    *,
    every: float = 1.0,
) -> None:
    """Watch runs in progress, also those of another terminal: test error, how far, how long still.

    It ends when none of them is being trained any more. Ctrl-C ends the watching, not the training.

    Example: resnetlab watch runs/photos

    Args:
        places: Run folders, or folders of them; of several the newest are shown.
        every: Seconds between two looks.
    """
    from resnetlab.runs.listing import all_listed
    from resnetlab.runs.stored import last_change

    if not 0.1 <= every <= 3600:
        raise ResnetlabError(f"`every={every:g}`: it must be from 0.1 to 3600 seconds")
    where = runs_in(places)

    def look() -> "list[Listed]":
        """The newest runs, as far as they have one metric."""
        found, _ = all_listed(where, MOST_SHOWN)
        newest = max(found, key=lambda run: last_change(run.folder))
        return [run for run in found if run.run.metric == newest.run.metric]

    found = look()
    if not console.is_terminal:
        _tell(found, every, look)
        return
    with Live(_view(found), console=console, auto_refresh=False) as live:
        while any(run.in_use for run in found):
            time.sleep(every)
            found = look()
            live.update(_view(found), refresh=True)


def _tell(found: "list[Listed]", every: float, look: "Callable[[], list[Listed]]") -> None:
    """Without a terminal: a line for each new report."""
    told: dict[Path, str] = {}
    while True:
        for run in found:
            if told.get(run.folder) != (line := _line(run)):
                told[run.folder] = line
                say(f"{run.folder}: {line}")
        if not any(run.in_use for run in found):
            return
        time.sleep(every)
        found = look()


def _line(run: "Listed") -> str:
    numbers = {"training": run.number("train"), "test": run.number("test")}
    shown = [f"{name} {value:.2f}" for name, value in numbers.items() if not math.isnan(value)]
    return ", ".join([run.state, *shown]) + (f" {run.run.metric.unit}" if shown else "")


def _view(found: "Sequence[Listed]") -> RenderableType:
    """A row for each run, and the curves of their test metric."""
    rows = Table("", "run", "state", "training", "test", "left", box=None, pad_edge=False)
    for run, colour in zip(found, COLOURS, strict=False):
        numbers = ("" if math.isnan(value) else f"{value:.2f}" for value in map(run.number, ("train", "test")))
        left = "" if run.left is None else str(timedelta(seconds=round(run.left)))
        name = shown(f"{run.run.architecture.title}, {run.folder.name}")
        rows.add_row(Text("━━", colour), Text(name), run.state, *numbers, left)
    curves = [_curve(run) for run in found]
    metric = found[0].run.metric
    title = Text(f"test {metric.name} {metric.unit}".strip() + " over steps", "dim")
    return Group(rows, title, text_chart(curves, max(20, min(console.width, 100) - 9), HEIGHT))


def _curve(run: "Listed") -> list[tuple[float, float]]:
    return [(point["step"], value) for point, value in zip(run.run.curve, run.run.at("test"), strict=True)]
