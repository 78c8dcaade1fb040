"""Detection: Tables 7 to 12. VGG-16 against residual networks, then box refinement, context and several scales."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from textwrap import fill

from resnetlab.data.class_names import spoken
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.detection_rows import (
    CERTAIN,
    PLAIN,
    REFINED,
    SCALED,
    Judged,
    Row,
    judged,
    measure_detector,
    read_subject,
    rows_of,
)
from resnetlab.experiments.experiment import Experiment, Inspection, Scale
from resnetlab.experiments.plan import Counted
from resnetlab.experiments.summary import mean_and_spread, protocol
from resnetlab.networks.architecture import BASELINES
from resnetlab.paper import detection as paper
from resnetlab.paper.detection import PrintedDetection
from resnetlab.report.record import Bar, Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun
from resnetlab.tasks.named import detection_task
from resnetlab.tasks.task import Task

VOC = Counted("VOC 07+12", 21_000, 5000, 20, layout="VOC's layout (Annotations, JPEGImages, ImageSets)")
COCO = Counted("COCO", 80_000, 40_000, 80, layout="COCO's annotations/instances_*.json, train2014/ and val2014/")
DET = Counted("ImageNet DET", 400_000, 20_000, 200, layout="its images with boxes, in VOC's or COCO's layout")
RULES_BY_CLASS = {"table10": ("11 points", "class_voc07"), "table11": ("area", "class_voc10")}
MEASURES = (("map50", "AP50", "#4c72b0", -0.2), ("ap", "AP", "#dd8452", 0.2))
POINTS = "#222222"
STEPS = (
    # Row of Table 9, with context, test setting
    (paper.BASELINE, False, PLAIN),
    (paper.REFINED, False, REFINED),
    (paper.CONTEXT, True, REFINED),
    (paper.SCALES, True, SCALED),
)


def task(words: Sequence[str], scale: Scale) -> Task:
    """Detection at a scale, with the options after a network's name.

    Raises:
        ResnetlabError: an unknown option.
    """
    if unknown := [word for word in words if word != "context"]:
        raise ResnetlabError(f"unknown option +{unknown[0]}; a detector here may have +context")
    return detection_task(DetectorOptions(**{**PRESETS[scale.preset], "context": bool(words)}))


def make_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    """The detectors, each row judged against the one before, and the paper's rows."""
    steps = STEPS if experiment.name == "table9" else STEPS[:1]
    rows = rows_of(runs, steps)
    changes = [None, *(judged(a, b) for a, b in pairwise(rows))]
    tables = [_table(rows, changes, runs), _class_table(rows, experiment)]
    tables.append(_paper_table(experiment))
    made_from = tuple(_without_matches(run).to_json() for run in runs)
    return Record(
        experiment.name,
        experiment.title,
        tuple(_sentences(rows, changes)),
        tuple(tables),
        (_figure(rows, runs, experiment),),
        made_from,
    )


def _table(rows: Sequence[Row], changes: Sequence[Judged | None], runs: Sequence[FinishedRun]) -> Table:
    header = ("detector", "seeds", "AP50 %", "change of AP50", "AP %", "VOC 11 points %", "VOC area %")
    lines = []
    for row, change in zip(rows, changes, strict=True):
        values = [mean_and_spread(row.values(name)) for name in ("map50", "ap", "voc07", "voc10")]
        said = "-" if change is None else str(change)
        lines.append((row.title, str(len(row.runs)), values[0], said, *values[1:]))
    first = runs[0].measured or {}
    sides = ", ".join(map(str, first["scales"]))
    scales = f" Multi-scale testing: shorter sides {sides}." if _has(rows, SCALED) else ""
    note = (
        f"{first['images']:,} test images, {first['boxes']:,} boxes. AP50 and AP: COCO's rule, 101 points; AP: mean "
        "over IoU 0.5 to 0.95. VOC: mAP at IoU 0.5 by 11 points (2007) and by area (2010 and later). ± after a "
        "change: standard error by a paired bootstrap over the images and the spread over the seeds; within noise: "
        f"less than {CERTAIN:g} of it.{scales} {protocol(runs)}"
    )
    return Table(header, tuple(lines), note, "Detectors")


def _figure(rows: Sequence[Row], runs: Sequence[FinishedRun], experiment: Experiment) -> Figure:
    """Mean AP50 and AP of each row as bars, and each seed as a point."""
    bars, lines = [], []
    for name, label, colour, offset in MEASURES:
        for k, row in enumerate(rows):
            values = row.values(name)
            bars.append(Bar(k + offset, mean(values), label, colour))
            places = tuple(float(k + offset) for _ in values)
            lines.append(Line(places, tuple(values), "", POINTS, "points"))
    ticks = tuple(f"{fill(row.step, 14)}\n{row.architecture.label.split(' ')[0]}" for row in rows)
    panel = Panel("", "", "%", tuple(lines), tuple(bars), ticks, top=100.0)
    return Figure(f"{experiment.title}\n{runs[0].data}, points are seeds", (panel,), size=(6.5, 3.8))


def _class_table(rows: Sequence[Row], experiment: Experiment) -> Table:
    """Average precision of each class, by the rule of the benchmark of the paper's table."""
    rule, name = RULES_BY_CLASS.get(experiment.name, ("101 points", "class_map50"))
    classes = (rows[0].runs[0].measured or {})["classes"]
    printed = [each for each in _printed(experiment) if each.classes]
    theirs = printed if tuple(classes) == paper.VOC_CLASSES else []
    lines = []
    for k, label in enumerate(classes):
        ours = [mean_and_spread(row.by_class(name)[k], 1) for row in rows]
        lines.append((spoken(label), *ours, *(f"{each.classes[k]:.1f}" for each in theirs)))
    header = ("class", *(row.title for row in rows), *(f"paper, {each.method} {each.network}" for each in theirs))
    return Table(header, tuple(lines), f"Average precision at IoU 0.5 by {rule}, %.", "By class")


def _paper_table(experiment: Experiment) -> Table:
    rows = [
        (
            each.method,
            each.network or "-",
            each.data,
            f"{each.map50:.1f}",
            "-" if each.ap is None else f"{each.ap:.1f}",
        )
        for each in _printed(experiment)
    ]
    number = experiment.name.removeprefix("table")
    return Table(
        ("method", "network", "data", "mAP@.5 %", "mAP@[.5,.95] %"), tuple(rows), "", f"The paper's Table {number}"
    )


def _printed(experiment: Experiment) -> tuple[PrintedDetection, ...]:
    return paper.TABLES[int(experiment.name.removeprefix("table"))]


def _sentences(rows: Sequence[Row], changes: Sequence[Judged | None]) -> list[str]:
    found = []
    for before, row, change in zip(rows, rows[1:], changes[1:], strict=False):
        assert change is not None  # noqa: S101 -- only the first has none
        if row.architecture != before.architecture:
            what = f"{row.architecture.title} in place of {before.architecture.title}"
        else:
            what = row.step.removeprefix("+ ").capitalize()
        way = "raises" if change.points > 0 else "lowers"
        said = "does not change AP50 beyond noise" if change.within_noise else f"{way} AP50"
        ap = mean(row.values("ap")) - mean(before.values("ap"))
        alone = min(len(each.values("ap")) for each in (before, row)) == 1
        seeds = "; one seed, so the spread between trainings is not counted" * alone
        numbers = f"{change.points:+.2f} points, standard error {change.error:.2f}; AP {ap:+.2f}"
        found.append(f"{what} {said}: {numbers}{seeds}.")
    if not found and rows:
        found.append(f"{rows[0].title}: AP50 {mean(rows[0].values('map50')):.2f} %.")
    return found


def _has(rows: Sequence[Row], setting: str) -> bool:
    return any(row.setting == setting for row in rows)


def _without_matches(run: FinishedRun) -> FinishedRun:
    """The run as it is stored: its measures without the single detections."""
    measured = dict(run.measured or {})
    settings = {
        name: {key: value for key, value in found.items() if key != "matches"}
        for name, found in measured["settings"].items()
    }
    return replace(run, measured=measured | {"settings": settings})


NETWORKS = ("vgg16_bn-narrow4", "resnet18-narrow4")
DIGITS = Scale("digit-scenes", "digit-scenes", "digit-scenes", side_by_side=True, preset="few-objects")
FOLDER = Scale("", "detection", "detection", preset="small")
FULL_NETWORKS = ("vgg16", "resnet101")
INSPECTION = Inspection(measure_detector, subject=read_subject)


def _scales(full: Scale, *further: str) -> dict[str, Scale]:
    small = (*NETWORKS, *(f"{NETWORKS[1]}+{word}" for word in further))
    large = (*FULL_NETWORKS, *(f"{FULL_NETWORKS[1]}+{word}" for word in further))
    return {"digits": DIGITS.of(*small), "folder": FOLDER.of(*small), "full": full.of(*large)}


def _experiment(name: str, title: str, full: Scale, *further: str) -> Experiment:
    return Experiment(
        name,
        title,
        _scales(full, *further),
        make_record,
        stem="imagenet",
        others=tuple(BASELINES),
        inspection=INSPECTION,
        task=task,
        further=frozenset({"weights"}),
    )


ON_VOC = Scale("voc", "detection-voc", "detection-voc", known=VOC, preset="paper")
ON_COCO = Scale("coco", "detection-coco", "detection-coco", known=COCO, preset="coco")
ON_DET = Scale("imagenet-det", "detection-coco", "detection-coco", known=DET, preset="coco")
EXPERIMENTS = (
    _experiment("table7", "Detection on Pascal VOC", ON_VOC),
    _experiment("table8", "Detection on COCO", ON_COCO),
    _experiment("table9", "Box refinement, context and multi-scale testing", ON_COCO, "context"),
    _experiment("table10", "Detection on Pascal VOC 2007, by class", ON_VOC),
    _experiment("table11", "Detection on Pascal VOC 2012, by class", ON_VOC),
    _experiment("table12", "Detection on ImageNet DET", ON_DET),
)
