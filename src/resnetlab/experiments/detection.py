"""Detection: Tables 7 to 12. VGG-16 against residual networks, then box refinement, context and several scales."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from resnetlab.data.class_names import spoken
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.average_precision import ApRule, Bootstrap, bootstrap
from resnetlab.evaluation.matching import Matches
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection, Scale
from resnetlab.experiments.options import Options
from resnetlab.experiments.plan import Counted
from resnetlab.experiments.summary import mean_and_spread, protocol
from resnetlab.networks.architecture import BASELINES, Architecture
from resnetlab.paper import detection as paper
from resnetlab.paper.detection import PrintedDetection
from resnetlab.report.record import Record, Table
from resnetlab.runs.finished import FinishedRun
from resnetlab.tasks.named import detection_task
from resnetlab.tasks.task import Task

CERTAIN = 1.96  # standard errors: 95 %
SCALES_OF_PAPER = (200, 400, 600, 800, 1000)  # Appendix B, for networks trained at 600
TRAINED_AT = 600
RULE: ApRule = "101 points"
VOC = Counted("VOC 07+12", 21_000, 5000, 20, layout="VOC's layout (Annotations, JPEGImages, ImageSets)")
COCO = Counted("COCO", 80_000, 40_000, 80, layout="COCO's annotations/instances_*.json, train2014/ and val2014/")
DET = Counted("ImageNet DET", 400_000, 20_000, 200, layout="its images with boxes, in VOC's or COCO's layout")
RULES_BY_CLASS = {"table10": ("11 points", "class_voc07"), "table11": ("area", "class_voc10")}
PLAIN, REFINED, SCALED = "baseline", "refined", "scaled"
STEPS = (
    # Row of Table 9, with context, test setting
    (paper.BASELINE, False, PLAIN),
    (paper.REFINED, False, REFINED),
    (paper.CONTEXT, True, REFINED),
    (paper.SCALES, True, SCALED),
)


@dataclass(frozen=True)
class Row:
    """A detector with its test setting, over its seeds."""

    architecture: Architecture
    step: str
    runs: tuple[FinishedRun, ...]
    setting: str

    @property
    def title(self) -> str:
        """The network and what was added."""
        narrow = self.architecture.narrow
        return f"{self.step} {self.architecture.title}" + (f" of 1/{narrow} width" if narrow > 1 else "")

    def values(self, name: str) -> list[float]:
        """A measure of each seed, in percent."""
        return [100 * float(found[name] or 0.0) for found in self._found]

    def by_class(self, name: str) -> list[list[float]]:
        """A measure of each class, of each seed, in percent."""
        several = zip(*(found[name] for found in self._found), strict=True)
        return [[100 * float(value or 0.0) for value in each] for each in several]

    @property
    def matches(self) -> list[list[Matches]]:
        """Which detections are right, of each seed and class."""
        return [[_matches(each) for each in found["matches"]] for found in self._found]

    @property
    def _found(self) -> list[Mapping[str, Any]]:
        return [(run.measured or {})["settings"][self.setting] for run in self.runs]


@dataclass(frozen=True)
class Judged:
    """The change of AP50 from one row to another, in points, and its standard error over images and seeds."""

    points: float
    error: float
    bootstrap: Bootstrap

    @property
    def within_noise(self) -> bool:
        """Whether other images or seeds could reverse it."""
        return abs(self.points) <= CERTAIN * self.error

    def __str__(self) -> str:
        return f"{self.points:+.2f} ± {self.error:.2f}" + (" (within noise)" if self.within_noise else "")


def task(words: Sequence[str], scale: Scale) -> Task:
    """Detection at a scale, with the options after a network's name.

    Raises:
        ResnetlabError: an unknown option.
    """
    if unknown := [word for word in words if word != "context"]:
        raise ResnetlabError(f"unknown option +{unknown[0]}; a detector here may have +context")
    return detection_task(DetectorOptions(**{**PRESETS[scale.preset], "context": bool(words)}))


def read_subject(folder: Path, options: Options) -> Any:
    """The detector of a finished run and the test images of its data."""
    from resnetlab.runs.folder import read_settings
    from resnetlab.runs.settings import choose_device
    from resnetlab.tasks.detectors import Detectors, images_with_boxes

    detectors = Detectors.read([folder], {}, choose_device(options.settings.device))
    settings = read_settings(folder)
    source = options.data or settings["source"]
    return detectors, images_with_boxes(detectors.models[0], source, Path(settings["data_dir"]))


def measure_detector(subject: Any, watch: Any) -> Mapping[str, Any]:
    """Average precision under the test settings of Table 9, as JSON; more scales only with global context."""
    from resnetlab.tasks.detectors import find_all, measure

    detectors, images = subject
    (model,) = detectors.models
    side = min(model.preprocessing.fit.resize)
    scales = tuple(round(side * each / TRAINED_AT) for each in SCALES_OF_PAPER)
    settings: dict[str, dict[str, Any]] = {PLAIN: {}, REFINED: {"refine": True}}
    if model.options.context:
        settings[SCALED] = {"refine": True, "scales": scales}
    found: dict[str, Any] = {}
    for name in watch(list(settings)):
        model.with_test({"refine": False, "scales": ()} | settings[name])
        measured = measure(find_all(detectors, images), len(detectors.classes))
        found[name] = {
            "map50": measured.coco.ap50,
            "ap": measured.coco.ap,
            "voc07": measured.voc07_mean,
            "voc10": measured.voc10_mean,
            "class_map50": measured.coco.class_ap50,
            "class_voc07": measured.voc07,
            "class_voc10": measured.voc10,
            "matches": [_stored(each) for each in measured.matches],
        }
    return {
        "images": len(images.images),
        "boxes": int((~images.truth.ignored).sum()),
        "classes": list(detectors.classes),
        "scales": list(scales),
        "settings": found,
    }


def rows_of(runs: Sequence[FinishedRun], steps: Sequence[tuple[str, bool, str]]) -> list[Row]:
    """The rows that these runs give, the paper's baseline first."""
    found = []
    networks = dict.fromkeys(run.architecture for run in runs)
    for architecture in sorted(networks, key=lambda row: row.stem != "vgg"):
        for step, context, setting in steps:
            chosen = tuple(
                run
                for run in runs
                if run.architecture == architecture
                and run.config["task"]["options"]["context"] == context
                and setting in (run.measured or {})["settings"]
            )
            is_step = step == paper.BASELINE or architecture.stem != "vgg"
            if chosen and is_step:
                found.append(Row(architecture, step, chosen, setting))
    return found


def judged(first: Row, second: Row) -> Judged:
    """The change of AP50: by a paired bootstrap over the images, and by the spread over the seeds."""
    found = bootstrap(first.matches, second.matches, RULE)
    seeds = [values for values in (first.values("map50"), second.values("map50")) if len(values) > 1]
    over_seeds = sum(stdev(values) ** 2 / len(values) for values in seeds)
    error = (100**2 * found.mean.standard_error**2 + over_seeds) ** 0.5
    return Judged(100 * found.mean.difference, error, found)


def make_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    """The detectors, each row judged against the one before, and the paper's rows."""
    steps = STEPS if experiment.name == "table9" else STEPS[:1]
    rows = rows_of(runs, steps)
    changes = [None, *(judged(a, b) for a, b in pairwise(rows))]
    tables = [_table(rows, changes, runs), _class_table(rows, experiment)]
    tables.append(_paper_table(experiment))
    made_from = tuple(_without_matches(run).to_json() for run in runs)
    return Record(experiment.name, experiment.title, tuple(_sentences(rows, changes)), tuple(tables), (), made_from)


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
        found.append(f"{what} {said}: {change.points:+.2f} points, standard error {change.error:.2f}.")
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


def _stored(matches: Matches) -> dict[str, list[Any]]:
    scores = [round(float(score), 5) for score in matches.scores]
    return {
        "image": matches.image.tolist(),
        "scores": scores,
        "outcome": matches.outcome.tolist(),
        "positives": matches.positives.tolist(),
    }


def _matches(said: Mapping[str, Any]) -> Matches:
    return Matches(
        np.asarray(said["image"], dtype=np.int64),
        np.asarray(said["scores"], dtype=np.float64),
        np.asarray(said["outcome"], dtype=np.int8),
        np.asarray(said["positives"], dtype=np.int64),
    )


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
