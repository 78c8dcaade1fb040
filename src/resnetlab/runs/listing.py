"""Runs on disk, finished or not: how far they are, their numbers so far, and in what they differ."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.runs.finished import FinishedRun, checked_configuration
from resnetlab.runs.stored import is_in_use, last_change, read_config, read_curve, read_log, read_result, walk
from resnetlab.training.resolve import SHORT

IDENTIFYING = ("data.classes", "data.fingerprint")
"""Parts of a configuration that are not options."""


@dataclass(frozen=True)
class Listed:
    """One run; until it has finished, its result is the last point of its curves.

    `reports` are the step and the time, in seconds since 1970, of the reports since its last start.
    """

    folder: Path
    run: FinishedRun
    finished: bool
    in_use: bool
    reports: tuple[tuple[int, float], ...]

    @property
    def step(self) -> int:
        """The step of the last report."""
        return int(self.run.curve[-1]["step"]) if self.run.curve else 0

    @property
    def iterations(self) -> int:
        """The steps of the whole training."""
        return int(self.run.recipe["iterations"])

    @property
    def state(self) -> str:
        """In words: finished, training, or stopped, and how far."""
        if self.finished:
            return "finished"
        return f"{'training' if self.in_use else 'stopped'}, step {self.step:,} of {self.iterations:,}"

    @property
    def left(self) -> float | None:
        """Seconds until it has finished, if it is being trained and two reports were made."""
        if not self.in_use or len(self.reports) < 2:
            return None
        (first, began), (last, ended) = self.reports[0], self.reports[-1]
        each = (ended - began) / max(1, last - first)
        return max(0.0, (self.iterations - last) * each - (time.time() - ended))

    def number(self, split: str) -> float:
        """The headline metric on a split, NaN until it is measured."""
        return float(self.run.result.get(f"{split}_{self.run.metric_on(split).name}", math.nan))

    @property
    def options(self) -> dict[str, Any]:
        """All options of the run by their full name, such as recipe.learning_rate."""
        return dict(_flat(self.run.config))


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The folders of runs among these folders and below them.

    Raises:
        ResnetlabError: a path is no folder.
    """
    for place in places:
        if not place.is_dir():
            raise ResnetlabError(f"{place} is no folder; expected one of a run, or of several runs")
    return list(dict.fromkeys(folder for place in places for folder, has_run in walk(place) if has_run))


def listed(folder: Path) -> Listed:
    """A run in a folder.

    Raises:
        ResnetlabError: one of its files is damaged.
    """
    config, curve, result = read_config(folder), tuple(read_curve(folder)), read_result(folder)
    so_far = result or (curve[-1] if curve else {})
    reports: list[tuple[int, float]] = []
    for event in read_log(folder):
        if event["event"] == "start":
            reports = []
        if event["event"] == "report":
            reports.append((event["step"], event["time"]))
    run = checked_configuration(FinishedRun(config, curve, so_far), folder)
    return Listed(folder, run, result is not None, is_in_use(folder), tuple(reports))


def all_listed(places: Sequence[Path], newest: int | None = None) -> tuple[list[Listed], list[str]]:
    """The runs among these folders and below them, or so many of the newest.

    Also returns what is wrong with runs that are damaged.

    Raises:
        ResnetlabError: a path is no folder, a run that was named is damaged, or no run can be read.
    """
    found, problems, folders = list[Listed](), list[str](), find_runs(places)
    if newest is not None:
        chosen = set(sorted(folders, key=last_change, reverse=True)[:newest])
        folders = [folder for folder in folders if folder in chosen]
    for folder in folders:
        try:
            found.append(listed(folder))
        except ResnetlabError as error:
            if folder in places:
                raise
            problems.append(str(error))
    if not found:
        where = ", ".join(map(str, places))
        raise ResnetlabError("; ".join(problems) or f"{where}: there is no run")
    return found, problems


def matches(run: Listed, words: Sequence[str]) -> bool:
    """Whether all words fit a run: a part of its folder, network, data or recipe, or an option as field=value."""
    about = " ".join(
        (str(run.folder), run.run.architecture.title, str(run.run.architecture), run.run.data, run.run.recipe["name"])
    ).lower()

    def fits(word: str) -> bool:
        name, sign, value = word.partition("=")
        if not sign:
            return word.lower() in about
        name = SHORT.get(name, name)
        return any(_is(field, name) and _same(_text(found), value) for field, found in run.options.items())

    return all(map(fits, words))


def differing(runs: Sequence[Listed]) -> list[str]:
    """The options in which runs differ, by their full names, in the order of the configurations."""
    options = [run.options for run in runs]
    names = dict.fromkeys(name for each in options for name in each)
    return [name for name in names if len({_text(each.get(name)) for each in options}) > 1]


def in_words(run: Listed, option: str) -> str:
    """The value of an option of a run."""
    return _text(run.options.get(option))


def _is(field: str, name: str) -> bool:
    return field == name or field.endswith(f".{name}")


def _same(one: str, other: str) -> bool:
    """Whether two values are the same text or number."""
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return "-" if value is None else str(value)


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        full = above + name
        if isinstance(value, dict):
            yield from _flat(value, f"{full}.")
        elif full not in IDENTIFYING and not full.startswith("task.metrics"):
            yield full, value
