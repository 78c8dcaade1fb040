"""Figure 7: standard deviations of layer responses."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean

from resnetlab.analysis import responses
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.why.claims import (
    Claim,
    colour,
    data_note,
    line,
    listed,
    measured,
    networks,
    of,
    study_record,
    subtitle,
    title,
)
from resnetlab.paper.curves import figure7
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

USUAL = "as chosen"
CHOICE = (
    "The paper leaves open which images, which statistics and which axes. Chosen here: test images, running "
    "statistics, one standard deviation over images, positions and channels together."
)
SAME = 0.05  # relative; smaller differences of means count as equal


def _values(run: FinishedRun, choice: str = USUAL) -> list[float]:
    return [float(value) for value in measured(run)["choices"][choice]]


def _record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    tables, figures = (_table(runs), _choices(runs)), (_figure(runs, experiment.title),)
    return study_record(
        experiment,
        runs,
        _sentence(runs),
        tables,
        figures,
        _claims(runs),
        f"Smaller: by more than {100 * SAME:.0f} %.",
    )


def _figure(runs: Sequence[FinishedRun], name: str) -> Figure:
    panels = []
    for ordered, what in ((False, "in layer order"), (True, "sorted, largest first")):
        lines, legend = list[Line](), list[tuple[str, str, str]]()
        for run in runs:
            if theirs := figure7(run.architecture.name, ordered=ordered):
                x, y = zip(*theirs, strict=True)
                drawn = "paper" if run.architecture.is_residual else "paper plain"
                lines.append(Line(tuple(x), tuple(y), "", colour(run.architecture), drawn))
                legend = [("the paper's, on CIFAR-10", "#888888", "paper")]
            values = sorted(_values(run), reverse=True) if ordered else _values(run)
            lines.append(line(run, range(1, len(values) + 1), values, "" if ordered else None))
        axis = "layers, sorted" if ordered else "layer index"
        panels.append(Panel(what, axis, "standard deviation of response", tuple(lines), legend=tuple(legend)))
    claim = "Claim: residual networks have smaller responses than plain ones, deeper ones smaller still"
    return Figure(f"{name}\n{claim}\n{subtitle(runs)}", tuple(panels), size=(4.6, 3.9), below=True)


def _table(runs: Sequence[FinishedRun]) -> Table:
    rows = []
    for run in runs:
        ours, theirs = _values(run), [y for _, y in figure7(run.architecture.name) or ()]
        cells = [title(run), f"{len(ours)}", f"{mean(ours):.2f}", f"{min(ours):.2f}", f"{max(ours):.2f}"]
        rows.append((*cells, f"{ours[0]:.2f}", f"{mean(theirs):.2f}" if theirs else "-"))
    header = ("network", "layers", "mean", "smallest", "largest", "first layer", "the paper's mean")
    return Table(header, tuple(rows), f"{CHOICE} {data_note(runs)}", "Standard deviation of responses")


def _choices(runs: Sequence[FinishedRun]) -> Table:
    choices = list(measured(runs[0])["choices"])
    rows = tuple((title(run), *(f"{mean(_values(run, choice)):.2f}" for choice in choices)) for run in runs)
    note = (
        "Means over layers. By channel: the mean over channels of the deviation over images and positions. Training "
        "images: those in place of test images. Batch statistics: of batches of 128, as in training."
    )
    return Table(("network", *choices), rows, note, "The effect of what the paper leaves open")


def _claims(runs: Sequence[FinishedRun]) -> list[Claim]:
    source = "He et al., 2015, Section 4.2"
    means = {id(run): mean(_values(run)) for run in runs}
    plain, residual = of(runs, residual=False), of(runs, residual=True)
    found = list[Claim]()
    pairs = [(p, r) for p in plain for r in residual if p.architecture.depth == r.architecture.depth]
    if pairs:
        told = "; ".join(f"{title(p)} {means[id(p)]:.2f}, {title(r)} {means[id(r)]:.2f}" for p, r in pairs)
        holds = all(means[id(r)] < (1 - SAME) * means[id(p)] for p, r in pairs)
        found.append(Claim("residual networks have smaller responses than plain ones", source, told, holds))
    if len({run.architecture.depth for run in residual}) > 1:
        values = [means[id(run)] for run in residual]
        told = listed(residual, lambda run: f"{means[id(run)]:.2f}")
        holds = all(b < (1 - SAME) * a for a, b in pairwise(values))
        found.append(Claim("deeper residual networks have smaller responses", source, told, holds))
    return found


def _sentence(runs: Sequence[FinishedRun]) -> str:
    return f"Mean standard deviation of the responses: {listed(runs, lambda run: f'{mean(_values(run)):.2f}')}."


EXPERIMENTS = (
    Experiment(
        "figure7",
        "Figure 7: standard deviations of layer responses",
        networks("plain20", "plain56", "resnet20", "resnet56", "resnet110"),
        _record,
        inspection=Inspection(responses.measure),
    ),
)
