"""The loss around trained networks (Li et al., 2018)."""

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import mean

from resnetlab.analysis import loss_landscape
from resnetlab.analysis.subject import Subject, error_and_loss
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.options import Options
from resnetlab.experiments.summary import mean_and_spread
from resnetlab.experiments.why.claims import (
    Claim,
    band,
    data_note,
    measured,
    networks,
    pair,
    study_record,
    subtitle,
    title,
)
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

SOURCE = "Li et al., 2018"
NOTE = (
    "A step of 1 moves every filter by its own norm in a random direction; biases and batch normalisation stay. "
    "Cross-entropy on training images without augmentation, running statistics."
)


def _record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    figures = [_figure(runs, experiment.title)]
    if surfaces := [run for run in runs if measured(run).get("surface")]:
        figures.append(_surface_figure(surfaces))
    return study_record(
        experiment,
        runs,
        _sentence(runs),
        (_table(runs),),
        figures,
        _claims(runs),
        "Means over the lines and over both sides; further minima: besides the lowest one of a line.",
    )


def _at(run: FinishedRun, place: float) -> list[float]:
    """The loss of each line at the measured places that are nearest to a distance on either side."""
    found = measured(run)["lines"]
    nearest = min(abs(abs(x) - place) for x in found["places"])
    at = [k for k, x in enumerate(found["places"]) if abs(abs(x) - place) < nearest + 1e-9]
    return [losses[k] for losses in found["losses"] for k in at]


def bumps(losses: Sequence[float]) -> int:
    """Local minima of a line besides the lowest one; a smooth bowl has none."""
    inner = range(1, len(losses) - 1)
    return max(0, sum(losses[k] < losses[k - 1] and losses[k] < losses[k + 1] for k in inner) - 1)


def _figure(runs: Sequence[FinishedRun], name: str) -> Figure:
    panels = []
    guessing = math.log(max(2, len(runs[0].config["data"].get("classes", ()))))
    for logarithmic, what in ((False, "up to four times the loss of guessing"), (True, "all, logarithmic")):
        lines = list[Line]()
        for run in runs:
            found = measured(run)["lines"]
            columns = list(zip(*found["losses"], strict=True))
            lines.append(band(run, found["places"], columns, "" if logarithmic else None))
        top = None if logarithmic else 4 * guessing
        step = "step (filter norms)"
        panels.append(
            Panel(what, step, "training loss", tuple(lines), left=-1.0, right=1.0, top=top, log=logarithmic)
        )
    count = len(measured(runs[0])["lines"]["losses"])
    claim = "Claim: shortcuts keep the loss around a deep network smooth"
    return Figure(
        f"{name}\n{claim}\n{subtitle(runs)}; mean and range of {count} random lines",
        tuple(panels),
        share=False,
        size=(4.4, 3.8),
        below=True,
    )


def _surface_figure(runs: Sequence[FinishedRun]) -> Figure:
    panels = []
    for run in runs:
        found = measured(run)["surface"]
        reach = found["places"][-1]
        grid = tuple(map(tuple, found["losses"]))
        panels.append(
            Panel(
                title(run),
                "second direction (filter norms)",
                "first direction (filter norms)",
                grid=grid,
                left=-reach,
                right=reach,
                bottom=-reach,
                top=reach,
            )
        )
    return Figure(f"The training loss in two random directions\n{subtitle(runs)}", tuple(panels), size=(4.4, 3.8))


def _table(runs: Sequence[FinishedRun]) -> Table:
    header = (
        "network",
        "training loss",
        "training error %",
        "loss at 0.24",
        "loss at 0.48",
        "loss at 1",
        "further minima a line",
        "largest eigenvalue",
    )
    rows = []
    for run in runs:
        found = measured(run)
        curvature = found["curvature"]
        value = f"{curvature['value']:.3g}" + ("" if curvature["converged"] else " (not converged)")
        cells = [title(run), f"{found['loss']:.3f}", f"{found['error']:.1f}"]
        cells += [mean_and_spread(_at(run, place)) for place in (0.24, 0.48, 1.0)]
        rows.append((*cells, f"{mean(map(bumps, found['lines']['losses'])):.1f}", value))
    eigenvalue = f"The eigenvalue of largest magnitude of the Hessian on {loss_landscape.CURVATURE_IMAGES} images"
    note = f"{NOTE} {eigenvalue}, by power iteration. {data_note(runs, 'training')}"
    return Table(header, tuple(rows), note, "Loss and curvature")


def _sentence(runs: Sequence[FinishedRun]) -> str:
    told = ", ".join(f"{title(run)} {measured(run)['curvature']['value']:.3g}" for run in runs)
    return f"Largest eigenvalue of the Hessian of the training loss: {told}."


def _claims(runs: Sequence[FinishedRun]) -> list[Claim]:
    if (both := pair(runs)) is None:
        return []
    plain, residual = both
    near = [mean(_at(run, 0.24)) - measured(run)["loss"] for run in both]
    told = f"rise of the loss at 0.24: {title(plain)} {near[0]:.2f}, {title(residual)} {near[1]:.2f}"
    claims = [
        Claim(
            "the loss rises more steeply around a deep plain network than around a residual one",
            SOURCE,
            told,
            near[0] > near[1],
        )
    ]
    count = [mean(map(bumps, measured(run)["lines"]["losses"])) for run in both]
    told = f"further minima a line: {title(plain)} {count[0]:.1f}, {title(residual)} {count[1]:.1f}"
    claims.append(
        Claim(
            "lines through a deep plain network are rugged, through a residual one smooth",
            SOURCE,
            told,
            count[0] > count[1],
        )
    )
    value = [measured(run)["curvature"]["value"] for run in both]
    told = f"{title(plain)} {value[0]:.3g}, {title(residual)} {value[1]:.3g}"
    claims.append(
        Claim("the minimum of a plain network is sharper (largest eigenvalue)", SOURCE, told, value[0] > value[1])
    )
    return claims


def _announce(subject: Subject, options: Options) -> str:
    """What the surface will cost, from the time of one of its points."""
    if not options.surface:
        return ""
    begun = time.perf_counter()
    error_and_loss(subject.network, subject.train)
    took = timedelta(seconds=round(options.surface**2 * (time.perf_counter() - begun)))
    return f"the surface of {options.surface} x {options.surface} points takes about {took} on this network"


EXPERIMENTS = (
    Experiment(
        "landscape",
        "The loss around trained networks",
        networks("plain56", "resnet56"),
        _record,
        inspection=Inspection(loss_landscape.measure, takes=frozenset({"surface"}), announce=_announce),
    ),
)
