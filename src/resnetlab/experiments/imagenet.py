"""ImageNet networks: Figure 4 and Tables 2 to 5, tested under the paper's protocols."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from resnetlab.choices import ProtocolName
from resnetlab.evaluation.answers import TOP, Answers
from resnetlab.evaluation.ensemble import Choice, best_ensembles, ensemble
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, RecordMaker, Scale
from resnetlab.experiments.learning_curves import experiment_figure
from resnetlab.experiments.plan import IMAGENET
from resnetlab.experiments.summary import by_network, is_the_papers, mean_and_spread, trained
from resnetlab.experiments.verdict import depth_effects, depth_verdict, option_sentences
from resnetlab.networks.architecture import Architecture
from resnetlab.paper.tables import RELEASE, TABLE2, TABLE3, TABLE4, TABLE5, Printed
from resnetlab.report.record import Record, Table
from resnetlab.runs.finished import FinishedRun

SMALL = Scale("digits", "digits-imagenet", "digits-imagenet", side_by_side=True, narrow=8)
FOLDER = Scale("", "paper-imagenet", "paper-imagenet")
OURS = next(row for row in TABLE5 if row.method.startswith("ResNet"))
FULL = Scale("imagenet", "imagenet-8x32", "imagenet-8x32", known=IMAGENET)


def protocol_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    """Errors under the experiment's protocol, curves, and the effects of depth and options."""
    sentences = option_sentences({s.architecture: s.test for s in by_network(runs)})
    if any(depth_effects(by_network(runs), residual) for residual in (False, True)):
        sentences.insert(0, depth_verdict(by_network(runs)))
    figure = experiment_figure(runs, experiment.title)
    made_from = tuple(run.to_json() for run in runs)
    return Record(
        experiment.name, experiment.title, tuple(sentences), (protocol_table(experiment, runs),), (figure,), made_from
    )


def ensemble_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    """`protocol_record` with ensembles of the networks, as in Table 5."""
    record = protocol_record(experiment, runs, scores)
    if len(scores) < 2:
        return record
    tables = (*record.tables, ensemble_table(runs, scores))
    return replace(record, sentences=(_ensemble_sentence(scores),), tables=tables)


def protocol_table(experiment: Experiment, runs: Sequence[FinishedRun]) -> Table:
    """Errors of each network under the protocol and the paper's; their difference if the data is the paper's."""
    ours, top5 = all(map(is_the_papers, runs)), _has_top5(runs)
    header: tuple[str, ...] = ("network", "params", "training error %", "top-1 error %")
    header += (("top-5 error %",) if top5 else ()) + ("paper top-1", "paper top-5")
    header += ("difference",) if ours else ()
    rows = []
    for summary in by_network(runs):
        cells = [summary.architecture.title, summary.parameters, mean_and_spread(summary.train)]
        cells.append(mean_and_spread(summary.test))
        if top5:
            group = [_tested(run) for run in runs if run.architecture == summary.architecture]
            cells.append(mean_and_spread([found["top5_error"] for found in group]))
        printed = _printed(experiment.paper, summary.architecture)
        theirs = (None, None) if printed is None else (printed.top1_error, printed.top5_error)
        cells += ["-" if value is None else f"{value:.2f}" for value in theirs]
        if ours:
            cells.append("-" if theirs[0] is None else f"{mean(summary.test) - theirs[0]:+.2f}")
        rows.append(tuple(cells))
    return Table(header, tuple(rows), _note(experiment, runs, ours))


def ensemble_table(runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Table:
    """Each single model, the best smaller ensembles, and the ensemble of all, by top-5 error."""
    top5 = len(scores[0].classes) > TOP
    titles = [run.architecture.title for run in runs]
    single = [best_ensembles([part], 1)[0] for part in scores]
    rows = [
        _ensemble_row(f"{title}, seed {run.seed}", choice, top5)
        for title, run, choice in zip(titles, runs, single, strict=True)
    ]
    for size in range(2, len(scores)):
        best = best_ensembles(scores, size)[0]
        members = ", ".join(titles[k] for k in best.members)
        rows.append(_ensemble_row(f"best {size} of {len(scores)}: {members}", best, top5))
    together = best_ensembles(scores, len(scores))[0]
    rows.append(_ensemble_row(f"all {len(scores)}", together, top5))
    note = (
        "Softmax scores averaged. The best of fewer are the best on these very images. "
        f"The paper's six: {OURS.top5_error} % top-5 error on ImageNet's test server."
    )
    return Table(("ensemble", "top-1 error %", *(["top-5 error %"] * top5)), tuple(rows), note)


def _ensemble_sentence(scores: Sequence[Scored]) -> str:
    found = ensemble(scores).answers()
    kind = "top-5" if len(found.classes) > TOP else "top-1"

    def error(answers: Answers) -> float:
        return answers.top5_error if kind == "top-5" else answers.error

    singles = [error(one.answers()) for one in scores]
    return (
        f"All {len(scores)} together make {error(found):.2f} % {kind} error, the best of them alone "
        f"{min(singles):.2f} %, the worst {max(singles):.2f} %."
    )


def _ensemble_row(name: str, choice: Choice, top5: bool) -> tuple[str, ...]:
    return (name, f"{choice.error:.2f}", *([f"{choice.top5_error:.2f}"] * top5))


def _printed(paper: Sequence[Printed], architecture: Architecture) -> Printed | None:
    key = architecture.name, architecture.shortcut
    return next((row for row in paper if (row.network, row.shortcut) == key), None)


def _tested(run: FinishedRun) -> dict[str, Any]:
    return run.tested or {}


def _has_top5(runs: Sequence[FinishedRun]) -> bool:
    return all("top5_error" in _tested(run) for run in runs)


def _note(experiment: Experiment, runs: Sequence[FinishedRun], ours: bool) -> str:
    first = runs[0]
    narrow, tested = first.architecture.narrow, _tested(first)
    narrower = f" The networks have 1/{narrow} of the paper's widths." if narrow > 1 else ""
    elsewhere = "" if ours else " The paper's errors are on ImageNet's validation images."
    if experiment.protocol == "dense" and not str(tested["protocol"]).startswith("fully"):
        elsewhere += (
            " Its protocol, fully convolutional at several scales, is not for crops as small as these: the last "
            "feature map is a position or two, and mostly zero padding."
        )
    return (
        f"Data: {first.data}, {first.config['data']['split']}. "
        f"Errors: {tested['protocol']}; {tested['images']:,} test images.{narrower} " + trained(runs) + elsewhere
    )


def _experiment(
    name: str,
    title: str,
    networks: str,
    protocol: ProtocolName,
    paper: tuple[Printed, ...],
    record: RecordMaker = protocol_record,
    ensemble: Printed | None = None,
) -> Experiment:
    rows = networks.split()
    scales = {"digits": SMALL.of(*rows), "folder": FOLDER.of(*rows), "full": FULL.of(*rows)}
    return Experiment(name, title, scales, record, paper, protocol, stem="imagenet", ensemble=ensemble)


EXPERIMENTS = (
    _experiment(
        "figure4",
        "Figure 4: plain and residual networks of 18 and 34 layers",
        "plain18 plain34 resnet18-A resnet34-A",
        "center",
        paper=RELEASE,
    ),
    _experiment(
        "table2",
        "Table 2: plain and residual networks of 18 and 34 layers",
        "plain18 plain34 resnet18-A resnet34-A",
        "ten-crop",
        paper=TABLE2,
    ),
    _experiment(
        "table3",
        "Table 3: options and depths",
        "plain34 resnet34-A resnet34-B resnet34-C resnet50 resnet101 resnet152",
        "ten-crop",
        paper=TABLE3,
    ),
    _experiment(
        "table4",
        "Table 4: single models",
        "resnet34-B resnet34-C resnet50 resnet101 resnet152",
        "dense",
        paper=TABLE4,
    ),
    _experiment(
        "table5",
        "Table 5: an ensemble of six models, two of them of 152 layers",
        "resnet34-B resnet34-C resnet50 resnet101 resnet152 resnet152",
        "dense",
        paper=TABLE4,
        record=ensemble_record,
        ensemble=OURS,
    ),
)
