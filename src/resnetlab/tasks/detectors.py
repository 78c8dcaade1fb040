"""Trained detectors, one or several together: find objects in files, and measure detectors on a split."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from resnetlab.choices import OnBad, SplitName
from resnetlab.data.boxes import Boxes, Detections
from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.data.named import DataSource
from resnetlab.detection.detect import detect
from resnetlab.detection.images import Images
from resnetlab.detection.model import DetectionModel, load_detector
from resnetlab.detection.stream import TESTED_AT_A_TIME, scenes_of
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.average_precision import (
    CocoSummary,
    average_precision,
    coco_summary,
    mean_over_classes,
)
from resnetlab.evaluation.matching import Matches, coco_matches, voc_matches
from resnetlab.tasks.detection import Found, found_in
from resnetlab.training.distributed import World

T = TypeVar("T")
Watch = Callable[[Iterable[T], int], Iterable[T]]


@dataclass(frozen=True)
class Detectors:
    """Models that detect together: their proposals are joined, their scores and boxes averaged (Appendix B).

    Raises:
        ResnetlabError: they differ in classes, image size or normalisation.
    """

    models: tuple[DetectionModel, ...]

    def __post_init__(self) -> None:
        first, *others = self.models
        for other in others:
            one, two = first.preprocessing, other.preprocessing
            same = one.fit == two.fit and torch.equal(one.mean, two.mean) and torch.equal(one.std, two.std)
            if first.classes != other.classes:
                raise ResnetlabError("the detectors differ in their classes, so they cannot be one ensemble")
            if not same:
                sides = f": shorter sides of {min(one.fit.resize)} and {min(two.fit.resize)} pixels"
                what = sides if one.fit != two.fit else ": mean or standard deviation of pixels"
                raise ResnetlabError(
                    f"the detectors differ in their preprocessing, so they cannot be one ensemble{what}"
                )

    @classmethod
    def read(cls, paths: Sequence[Path], options: dict[str, Any], device: torch.device) -> "Detectors":
        """Detectors of files or runs, with other options of testing, on a device.

        Raises:
            ResnetlabError: nothing to read there, or an option that is fixed by the training.
        """
        models = tuple(load_detector(path).with_test(options) for path in paths)
        for model in models:
            model.network.to(device).to(memory_format=torch.channels_last)
            if device.type == "cpu":
                model.network.fuse()
        return cls(models)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.models[0].classes

    @property
    def device(self) -> torch.device:
        """Where they run."""
        return next(self.models[0].network.parameters()).device

    def __call__(self, images: Images) -> list[Detections]:
        """What they find in each image."""
        return detect([model.network for model in self.models], images)

    def scenes(
        self, split: Files, workers: int | None, skipped: set[str] | None
    ) -> Iterator[tuple[list[int], Images]]:
        """The images of a split as they want them, and their numbers."""
        first = self.models[0]
        return scenes_of(split, first.preprocessing, self.device, first.options.scales, workers, skipped)


@dataclass(frozen=True)
class DetectionSet:
    """Images of one split with boxes, by the classes' numbers of the model."""

    dataset: Dataset
    split: SplitName
    images: Files
    skipped: set[str] = field(default_factory=set)

    @property
    def truth(self) -> Boxes:
        """The annotated boxes."""
        assert self.images.boxes is not None  # noqa: S101 -- made by `images_with_boxes`
        return self.images.boxes


@dataclass(frozen=True)
class Measured:
    """A detector's average precision on images, by three rules; fractions from 0 to 1."""

    coco: CocoSummary
    matches: tuple[Matches, ...]
    """By COCO's rule at IoU 0.5, for resampling."""
    voc07: tuple[float | None, ...]
    """Of each class, at IoU 0.5 by 11 points."""
    voc10: tuple[float | None, ...]
    """Of each class, at IoU 0.5 by the area under the curve."""

    @property
    def voc07_mean(self) -> float | None:
        """The mean over the classes."""
        return mean_over_classes(self.voc07)

    @property
    def voc10_mean(self) -> float | None:
        """The mean over the classes."""
        return mean_over_classes(self.voc10)


def images_with_boxes(
    model: DetectionModel, source: str, data_dir: Path = Path("data"), split: SplitName | None = None
) -> DetectionSet:
    """The images of a split, whose classes are matched to the model's by name.

    Raises:
        ResnetlabError: no boxes, no such split, or classes that the model does not know.
    """
    dataset = DataSource(source, data_dir).load(resident=False)
    if not dataset.has_boxes:
        raise ResnetlabError(f"{source} has no boxes; a detector is tested on images with boxes")
    name: SplitName = split or "test"
    held = [part for part in dataset.splits.values() if isinstance(part, Files)]
    if name == "all":
        images = _together(held)
    elif name in dataset.splits:
        chosen = dataset.splits[name]
        assert isinstance(chosen, Files)  # noqa: S101 -- boxes are of files
        images = chosen
    else:
        raise ResnetlabError(f"{dataset.name} has no {name} images; it has {', '.join(dataset.splits)}")
    if unknown := sorted(set(dataset.classes) - set(model.classes)):
        raise ResnetlabError(
            f"{dataset.name} has classes that the model does not know: {', '.join(unknown[:5])}; the model knows "
            f"{', '.join(model.classes[:20])}"
        )
    numbers = torch.tensor([model.classes.index(known) for known in dataset.classes])
    boxes = images.boxes
    assert boxes is not None  # noqa: S101
    renamed = Boxes(boxes.corners, numbers[boxes.classes], boxes.difficult, boxes.crowd, boxes.counts)
    return DetectionSet(dataset, name, Files(images.files, images.labels, renamed))


def find_all(
    detectors: Detectors,
    images: DetectionSet,
    workers: int | None = None,
    on_bad: OnBad = "stop",
    watch: Watch[Any] = lambda items, total: items,
) -> Found:
    """What the detectors find in all images, in all connected processes together.

    Raises:
        ResnetlabError: an unreadable file, unless `on_bad` is "skip".
    """
    world = World.connected()
    mine = torch.arange(world.rank, len(images.images), world.size)
    part = images.images[mine]
    skipped = images.skipped if on_bad == "skip" else None

    def batches() -> Iterator[tuple[Images, tuple[list[int], Boxes]]]:
        for numbers, scenes in detectors.scenes(part, workers, skipped):
            places = mine[torch.tensor(numbers)]
            yield scenes, (places.tolist(), images.truth[places])

    size = TESTED_AT_A_TIME[detectors.device.type]
    return found_in(detectors, watch(batches(), -(-len(part) // size)))


def measure(found: Found, classes: int) -> Measured:
    """Average precision by the rules of COCO and Pascal VOC."""
    truth, detections = found.truth, found.detections
    by_voc = voc_matches(truth, detections, classes)
    voc07, voc10 = (tuple(average_precision(each, rule) for each in by_voc) for rule in ("11 points", "area"))
    return Measured(
        coco_summary(truth, detections, classes), tuple(coco_matches(truth, detections, classes)), voc07, voc10
    )


def find_in_files(
    detectors: Detectors, paths: Sequence[Path], workers: int | None = None, skipped: set[str] | None = None
) -> Iterator[tuple[Path, Detections]]:
    """What the detectors find in image files, in order; unreadable files are added to `skipped`."""
    split = Files(tuple(File(str(path), str(path)) for path in paths), torch.zeros(len(paths), 0))
    for numbers, images in detectors.scenes(split, workers, skipped):
        for number, detections in zip(numbers, detectors(images), strict=True):
            yield paths[number], detections.cpu()


def _together(parts: Sequence[Files]) -> Files:
    boxes = [part.boxes for part in parts if part.boxes is not None]
    files = tuple(file for part in parts for file in part.files)
    labels: Tensor = torch.zeros(len(files), 0)
    return Files(files, labels, Boxes.joined(boxes))
