"""`resnetlab runs`: what was trained, and in what runs differ."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import complain, counted, print_table, runs_in, say
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    from resnetlab.report.record import Table
    from resnetlab.runs.listing import Listed

DEFAULT = "Default: runs"
MOST_COMPARED = 12
Order = Literal["folder", "test", "step", "date"]


@command(name="runs")
def runs_(
    places: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOLDER ...", help_behavior_hint=DEFAULT)
    ] = (),
    /,
    *,
    match: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORD ...", help_behavior_hint="")] = (),
    sort: Order = "folder",
) -> None:
    """List runs: how far they are, their errors, and for a few runs the options in which they differ.

    Examples: resnetlab runs, resnetlab runs --match digits seed=1, resnetlab runs runs/a runs/b

    Args:
        places: Run folders, or folders of them.
        match: Only runs that fit all words: a part of their folder, network, data or recipe, or an option as in
            learning_rate=0.1.
        sort: By folder, test error (the best first), steps, or date (the newest first).
    """
    from resnetlab.report.record import Table
    from resnetlab.runs import listing

    found, problems = listing.all_listed(runs_in(places))
    for problem in problems:
        complain(f"{problem}; left out")
    chosen = [run for run in found if listing.matches(run, match)]
    if not chosen:
        raise ResnetlabError(f"`match={' '.join(match)}`: none of {counted(len(found), 'run')} fits")
    chosen.sort(key=KEYS[sort])
    print_table(_overview(chosen))
    if 1 < len(chosen) <= MOST_COMPARED:
        names = listing.differing(chosen)
        if not names:
            say("They differ in no option.")
            return
        titles = ("run", *(name.removeprefix("recipe.") for name in names))
        cells = tuple((str(run.folder), *(listing.in_words(run, name) for name in names)) for run in chosen)
        print_table(Table(titles, cells, "", "In what they differ"))


def _overview(runs: "list[Listed]") -> "Table":
    """A row for each run."""
    from resnetlab.experiments.summary import in_words
    from resnetlab.report.record import Table

    metrics = {(in_words(run.run.metric_on("train")), in_words(run.run.metric)) for run in runs}
    note = ""
    if len(metrics) == 1:
        ((training, test),) = metrics
        note = f"Training and test: {test}." if training == test else f"Training: {training}; test: {test}."
    rows = [
        (
            str(run.folder),
            run.run.architecture.title,
            run.run.data,
            run.state,
            *(_number(run.number(split)) for split in ("train", "test")),
        )
        for run in runs
    ]
    return Table(("run", "network", "data", "state", "training", "test"), tuple(rows), note)


KEYS = {
    "folder": lambda run: str(run.folder),
    "test": lambda run: _worst_last(run.number("test"), run.run.metric.best == "highest"),
    "step": lambda run: -run.step,
    "date": lambda run: _newest_first(str(run.run.result.get("finished", ""))),
}


def _worst_last(value: float, highest: bool) -> float:
    return math.inf if math.isnan(value) else -value if highest else value


def _newest_first(date: str) -> list[int]:
    return [-ord(letter) for letter in date] or [1]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
