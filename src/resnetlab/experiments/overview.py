"""Which tables and figures were made: our number beside the paper's, or the command and the time that it takes."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from statistics import mean, stdev

import torch

from resnetlab.data.named import DataSource
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.catalogue import ENTRIES
from resnetlab.experiments.experiment import Entry, Experiment
from resnetlab.experiments.options import Options
from resnetlab.experiments.plan import counted, plan
from resnetlab.experiments.study import experiment_of
from resnetlab.experiments.summary import beside_paper, mean_and_spread, tested_error
from resnetlab.networks.architecture import Architecture
from resnetlab.paper.tables import Printed
from resnetlab.report.record import Figure, Record
from resnetlab.report.webpage import Overview, Row
from resnetlab.runs.finished import FinishedRun
from resnetlab.runs.settings import choose_device
from resnetlab.runs.several import default_jobs
from resnetlab.runs.stored import is_finished
from resnetlab.training.named_recipes import RECIPES

HEADER = ("table or figure", "state", "here", "in the paper", "difference")
SECONDS = 0.1  # of measurement per network
LEADING = ("figure6", "figure1")
NONE = "–"
ELSEWHERE = "other data or length"
LONGEST = 160  # letters of a finding


def missing(records: Iterable[Record]) -> list[Entry]:
    """The entries of the catalogue without a record."""
    made = {record.name for record in records}
    return [entry for entry in ENTRIES if entry.name not in made]


def overview(records: Mapping[str, Record], expected: Mapping[str, str]) -> Overview:
    """A row for each record of the catalogue's entries, in its order, and one for each entry without a record.

    `records` are by their anchor in the page; `expected` says how long entries take, by their names.
    """
    rows = []
    for entry in ENTRIES:
        made = {anchor: record for anchor, record in records.items() if record.name == entry.name}
        rows += [Row((entry.title, *_state(entry, record)), anchor) for anchor, record in made.items()]
        if not made:
            rows.append(
                Row((entry.title, _not_run(expected.get(entry.name, "")), NONE, NONE, NONE), "", command(entry))
            )
    note = (
        "Here: the best network, mean and standard deviation over seeds. A difference is judged only on the paper's "
        "data and length of training; other data and shorter training show the effects, not the numbers."
    )
    return Overview(HEADER, tuple(rows), note)


def command(entry: Entry) -> str:
    """What makes an entry's record."""
    return f"resnetlab reproduce {entry.name}"


def lead(records: Sequence[Record]) -> tuple[Figure, str] | None:
    """The figure of the degradation and what it shows: of the most seeds, then of the longest training."""
    found = [record for record in records if record.name in LEADING and record.figures and record.runs]
    if not found:
        return None
    chosen = max(found, key=_weight)
    return chosen.figures[0], " ".join(chosen.sentences)


def _weight(record: Record) -> tuple[int, int]:
    runs = runs_of(record)
    return len({run.seed for run in runs}), max(run.recipe["iterations"] for run in runs)


def runs_of(record: Record) -> list[FinishedRun]:
    """The runs behind a record."""
    return [FinishedRun.from_json(said) for said in record.runs]


class Expected:
    """How long entries take here, from a short measurement of each network; finished runs take nothing."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._hours: dict[object, float] = {}
        self._load = cache(lambda data, resident: DataSource(data).load(resident))

    def __call__(self, entry: Entry) -> str:
        """In words; empty for what cannot be estimated."""
        found = self.minutes(entry)
        if found is None:
            return ""
        length = f"{max(1, round(found))} min" if found < 90 else f"{found / 60:.0f} h"
        return f"about {length} on this machine"

    def minutes(self, entry: Entry) -> float | None:
        """The minutes that an entry takes; None for studies without runs, and where data or packages are missing."""
        if (experiment := experiment_of(entry)) is None:
            return None
        try:
            return 60 * self._of(experiment)
        except ResnetlabError:
            return None

    def _of(self, experiment: Experiment) -> float:
        options = experiment.settled(self.options)
        at = experiment.scale(str(options.scale))
        dataset = self._load(at.data, RECIPES[at.recipe].resident)
        numbers = counted(dataset, RECIPES[at.recipe])
        specs = experiment.specs(replace(options, data=at.data), numbers.train)
        device, hours = choose_device(options.settings.device), 0.0
        protocol = experiment.protocol_for(min(spec.recipe.crop_size for spec in specs.values()))
        with _threads(1 if at.side_by_side else torch.get_num_threads()):
            for name, spec in specs.items():
                if is_finished(options.out / name):
                    continue
                key = spec.architecture, spec.task.name, spec.recipe, protocol
                if key not in self._hours:
                    (planned,) = plan({name: spec}, protocol, numbers, device, dataset, measured_for=SECONDS)
                    self._hours[key] = planned.training_hours + planned.testing_hours
                hours += self._hours[key]
        return hours / (default_jobs(specs, at.side_by_side, device))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _not_run(expected: str) -> str:
    return f"not run{f': {expected}' if expected else ''}"


def _state(entry: Entry, record: Record) -> tuple[str, str, str, str]:
    """How it was run, our best number or what was found, the paper's for that network, and their difference."""
    runs = runs_of(record)
    if not runs:
        return "made", _finding(record), NONE, NONE
    networks, seeds = len({run.architecture for run in runs}), len({run.seed for run in runs})
    state = f"run: {runs[0].data}, {_counted(networks, 'network')}, {_counted(seeds, 'seed')}"
    experiment = experiment_of(entry)
    if experiment is not None and (six := experiment.ensemble):
        return state, _finding(record), f"{six.top5_error:.2f} % top-5 ({six.protocol})", ELSEWHERE
    if record.data or any(run.measured for run in runs):
        return state, _finding(record), NONE, NONE
    best = _best(runs)
    errors = [tested_error(run) for run in best]
    metric, architecture = best[0].metric, best[0].architecture
    here = f"{architecture.title}: {mean_and_spread(errors)} {metric.unit} test {metric.name}".replace("  ", " ")
    printed = _printed(entry, architecture)
    if printed is None or printed.top1_error is None:
        return state, here, NONE, NONE
    theirs = printed.top1_error if printed.mean is None else printed.mean
    return state, here, f"{theirs:.2f} % ({printed.protocol})", _difference(errors, theirs, beside_paper(runs))


def _finding(record: Record) -> str:
    """What a study found, in short: how many claims hold, or its first sentence up to the numbers."""
    sentences = " ".join(record.sentences)
    if held := re.search(r"\d+ of \d+ claims hold[^.]*", sentences):
        return held[0]
    return textwrap.shorten(re.split(r"[:;]|\. ", sentences)[0], LONGEST, placeholder=" …") or NONE


def _best(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs of the network with the best mean."""
    groups: dict[tuple[Architecture, str], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault((run.architecture, str(run.config.get("task"))), []).append(run)
    sign = -1 if runs[0].metric.best == "highest" else 1
    return min(groups.values(), key=lambda group: sign * mean(map(tested_error, group)))


def _printed(entry: Entry, architecture: Architecture) -> Printed | None:
    """The paper's row of a network; where a table does not say the option, it is A."""
    experiment, key = experiment_of(entry), (architecture.name, architecture.shortcut)
    paper = experiment.paper if experiment is not None else ()
    return next((row for row in paper if (row.network, row.shortcut or "A") == key), None)


def _difference(errors: Sequence[float], theirs: float, comparable: bool) -> str:
    if not comparable:
        return ELSEWHERE
    difference = mean(errors) - theirs
    if len(errors) == 1:
        return f"{difference:+.2f}"
    within = "within" if abs(difference) <= stdev(errors) else "beyond"
    return f"{difference:+.2f} ({within} the seeds' spread)"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number > 1)}"
