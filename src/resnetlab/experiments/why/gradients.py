"""Gradients: do they vanish? Norms by layer at initialisation (see there) and during training."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnetlab.analysis import gradient_norms
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.study import Joined
from resnetlab.experiments.why import initialisation
from resnetlab.experiments.why.claims import data_note, measured, networks, numbers, study_record, subtitle, title
from resnetlab.experiments.why.initialisation import ratio
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

REPLAYS = (0.01, 0.05, 0.25)


def _step(point: Mapping[str, Any], run: FinishedRun) -> int:
    return int(run.recipe["iterations"] if point["step"] is None else point["step"])


def _ends(run: FinishedRun) -> list[Mapping[str, Any]]:
    """The first two measured points of a training and the last."""
    points = measured(run)["points"]
    return [*points[: min(2, len(points) - 1)], points[-1]]


def _told(point: Mapping[str, Any], run: FinishedRun) -> str:
    return f"{ratio(point):.2g} after {_step(point, run):,} steps"


def _trained_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    rows = []
    for run in runs:
        for point in measured(run)["points"]:
            cells = (title(run), f"{_step(point, run):,}", f"{ratio(point):.2g}", f"{point['growth']:.3f}")
            rows.append((*cells, f"{max(point['gradient']):.2g}"))
    header = ("network", "step", "gradient, first/last layer", "growth a layer", "largest norm")
    note = f"Of one batch, without augmentation, in training mode. {data_note(runs, 'training')}"
    table = Table(header, tuple(rows), note, "During training")
    told = ", ".join(f"{title(run)} {' then '.join(_told(point, run) for point in _ends(run))}" for run in runs)
    sentence = f"The first layer's gradient over the last's during training: {told}."
    return study_record(experiment, runs, sentence, (table,), (_trained_figure(runs),))


def _trained_figure(runs: Sequence[FinishedRun]) -> Figure:
    panels = []
    for run in runs:
        lines = list[Line]()
        points = measured(run)["points"]
        shades = ("#bdbdbd", "#9ecae1", "#4292c6", "#08519c", "#d62728")
        for k, point in enumerate(points):
            share = 100 * _step(point, run) / run.recipe["iterations"]
            y = point["gradient"]
            shade = shades[round(k * (len(shades) - 1) / max(1, len(points) - 1))]
            lines.append(Line(numbers(len(y)), tuple(y), f"after {share:.0f} % of the steps", shade, "residual"))
        panels.append(
            Panel(title(run), "layer (3x3, from the input)", "norm of the gradient", tuple(lines), log=True)
        )
    claim = "Claim: gradients of plain networks are healthy, so they are not the cause of degradation"
    return Figure(f"Gradients during training\n{claim}\n{subtitle(runs)}", tuple(panels), size=(3.0, 3.7), below=True)


EXPERIMENTS = (
    Joined(
        initialisation.STUDY,
        Experiment(
            "gradients",
            "Do gradients vanish? Norms by layer",
            networks("plain20", "plain56", "resnet20", "resnet56"),
            _trained_record,
            inspection=Inspection(gradient_norms.measure, replays=REPLAYS),
        ),
    ),
)
