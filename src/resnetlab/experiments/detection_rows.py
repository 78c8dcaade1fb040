"""The rows of detection tables: what is measured on finished runs, and whether a change is more than noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np

from resnetlab.evaluation.average_precision import ApRule, Bootstrap, bootstrap
from resnetlab.evaluation.matching import Matches
from resnetlab.experiments.options import Options
from resnetlab.networks.architecture import Architecture
from resnetlab.paper import detection as paper
from resnetlab.runs.finished import FinishedRun

CERTAIN = 1.96  # standard errors: 95 %
SCALES_OF_PAPER = (200, 400, 600, 800, 1000)  # Appendix B, for networks trained at 600
TRAINED_AT = 600
RULE: ApRule = "101 points"
PLAIN, REFINED, SCALED = "baseline", "refined", "scaled"
Step = tuple[str, bool, str]
"""What a row of Table 9 adds, whether the network has global context, and the setting of the test."""


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


def read_subject(folder: Path, options: Options) -> Any:
    """The detector of a finished run and the test images of its data."""
    from resnetlab.runs.settings import choose_device
    from resnetlab.runs.stored import read_settings
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


def rows_of(runs: Sequence[FinishedRun], steps: Sequence[Step]) -> list[Row]:
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
    over_seeds = _variance_over_seeds(first, second)
    error = (100**2 * found.mean.standard_error**2 + over_seeds) ** 0.5
    return Judged(100 * found.mean.difference, error, found)


def _variance_over_seeds(first: Row, second: Row) -> float:
    """Of the mean change of AP50 in points; of the same networks in two tests, that of each seed's own change."""
    one, two = first.values("map50"), second.values("map50")
    if [run.config for run in first.runs] == [run.config for run in second.runs]:
        one, two = [b - a for a, b in zip(one, two, strict=True)], []
    return float(sum(stdev(values) ** 2 / len(values) for values in (one, two) if len(values) > 1))


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
