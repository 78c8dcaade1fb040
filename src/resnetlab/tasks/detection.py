"""Object detection (Appendices A and B): Faster R-CNN on the architecture."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import Tensor, nn

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.data.dataset import Dataset, Files, Split
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.reading import read_each
from resnetlab.detection.images import Images
from resnetlab.detection.model import DETECTION, save_detector, start_detector
from resnetlab.detection.network import LOSSES, FasterRCNN, detector
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.stream import SceneStream, collate, picture, read_scene, scaled, scenes_of
from resnetlab.devices import widened
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.average_precision import coco_summary
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.modes import modes_kept
from resnetlab.tasks.task import Batch, Metric, Task, Tested, mean_loss
from resnetlab.training.batches import Batches, Reading
from resnetlab.training.distributed import World
from resnetlab.training.loop import Loss
from resnetlab.training.recipe import Recipe

OBJECTS = 6
CALIBRATED_ON = 2000  # training images for exact batch statistics
METRICS = (Metric("AP50", "%", 100.0, best="highest"), Metric("AP", "%", 100.0, best="highest"))
"""By COCO's rule, 101 points: at IoU 0.5, and the mean over IoU 0.5 to 0.95; means over the classes."""


@dataclass(frozen=True, eq=False)
class Found:
    """Detections in the images of some numbers of a split, and their annotated boxes, in the same order."""

    numbers: list[int]
    truth: Boxes
    detections: list[Detections]

    @classmethod
    def joined(cls, parts: Sequence["Found"]) -> "Found":
        """All parts, in the order of the split."""
        numbers = [number for part in parts for number in part.numbers]
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        truth = Boxes.joined(part.truth for part in parts)[torch.tensor(order, dtype=torch.int64)]
        detections = [each for part in parts for each in part.detections]
        return cls([numbers[k] for k in order], truth, [detections[k] for k in order])


def detection(options: DetectorOptions) -> Task:
    """The task with these choices of the detector."""
    return Task(
        name=DETECTION,
        metrics=METRICS,
        tallied=tuple(Metric(name) for name in LOSSES),
        outputs=_outputs,
        loss=_loss,
        sums=_sums,
        options=options,
        takes_boxes=True,
        example=_example,
        about=_about(options),
        suffix=" with context" if options.context else "",
        network=partial(detector, options),
        start_from=start_detector,
        prepare=partial(prepare_scenes, options),
        tester=_test,
        save=save_detector,
    )


def prepare_scenes(
    options: DetectorOptions,
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    preprocessing: Preprocessing,
    reading: Reading,
) -> Batches:
    """Training and test batches of whole images with boxes.

    Raises:
        ResnetlabError: the batch cannot be divided evenly, or batch statistics over several processes.
    """
    world, train = reading.world, dataset.train
    assert isinstance(train, Files)  # noqa: S101 -- checked with the task
    recipe.parts(world.size)  # raises if the batch cannot be divided
    if recipe.synchronised and world.size > 1:
        raise ResnetlabError(
            "batch statistics over several processes need parts of equal size, and in detection images and their "
            "regions differ; take synchronised=no"
        )
    skip = reading.on_bad == "skip"
    stream = SceneStream(
        train,
        preprocessing,
        recipe.batch_size,
        seed,
        device,
        flip=recipe.flip,
        skip=skip,
        part=world.rank,
        parts=world.size,
        threads=reading.workers,
    )
    skipped = stream.waiting.skipped

    def calibration() -> Iterator[Images]:
        every = np.unique(np.linspace(0, len(train) - 1, min(CALIBRATED_ON, len(train))).astype(int))
        for start in range(world.rank * recipe.batch_size, len(every), world.size * recipe.batch_size):
            some = train[torch.from_numpy(every[start : start + recipe.batch_size])]
            assert some.boxes is not None  # noqa: S101
            cut = partial(read_scene, fit=preprocessing.fit)
            on_bad, boxes = reading.on_bad, some.boxes
            read = list(read_each(some, cut, reading.workers, on_bad, skipped))
            scenes = [replace(scene, boxes=scaled(boxes[k], scene.scale)) for k, scene in read]
            if scenes:
                yield collate(scenes, preprocessing.to(device), device, start)

    def test(split: Split) -> Callable[[], Iterator[Batch]]:
        assert isinstance(split, Files)  # noqa: S101
        return lambda: _tests(split, options, preprocessing, device, reading.workers, skipped if skip else None)

    tests = {name: test(split) for name, split in dataset.splits.items() if name != "train"}
    return Batches(stream, tests, calibration, preprocessing, stream.waiting, lambda: picture(stream))


def found_in(detect: Callable[[Images], list[Detections]], batches: Iterable[Batch]) -> Found:
    """What is found in the images of all processes."""
    parts = [Found(numbers, truth, [each.cpu() for each in detect(images)]) for images, (numbers, truth) in batches]
    if dist.is_initialized():
        several: list[list[Found]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(several, parts)
        parts = [part for each in several for part in each]
    return Found.joined(parts)


def _about(options: DetectorOptions) -> str:
    """The detector's main choices."""
    sizes, ratios = ("/".join(f"{x:g}" for x in each) for each in (options.anchor_sizes, options.anchor_ratios))
    pooling = "RoI max pooling" if options.pooling == "pool" else "RoIAlign"
    return (
        f"Detector: {pooling}, anchors of {sizes} pixels at ratios {ratios}, {options.train_proposals:,} proposals "
        f"in training and {options.test_proposals:,} in tests, NMS at IoU {options.nms:g}"
        + ", global context" * options.context
        + ", box refinement" * options.refine
    )


def _outputs(dataset: Dataset) -> tuple[str, ...]:
    return dataset.classes


def _loss(recipe: Recipe, dataset: Dataset, device: torch.device) -> Loss:
    return mean_loss


def _example(row: Architecture, recipe: Recipe, count: int, size: int, device: torch.device) -> Batch:
    """Random images of 4:3 with a few objects, to measure time with."""
    height, width = size, round(size * 4 / 3)
    corners = [[0.1 * k * width, 0.2 * height, (0.1 * k + 0.3) * width, 0.7 * height] for k in range(OBJECTS)]
    boxes = Boxes.joined([Boxes.of(corners, [0] * OBJECTS)] * count).to(device)
    pixels = torch.randn(count, row.in_channels, height, width, device=device)
    pixels = pixels.to(memory_format=torch.channels_last)
    images = Images(pixels, ((height, width),) * count, torch.ones(count, 2, device=device), boxes)
    return images, images


def _sums(losses: Tensor, images: Images) -> Float64[Tensor, "5"]:
    count = len(images)
    wide = widened(losses)
    return torch.cat([wide * count, wide.new_full((1,), count)])


def _test(task: Task, network: nn.Module, batches: Iterable[Batch]) -> Tested:
    with modes_kept(network), torch.no_grad():
        network.eval()
        found = found_in(network, batches)
    if not found.numbers:
        return Tested({}, 0)
    assert isinstance(network, FasterRCNN)  # noqa: S101 -- for the type checker
    summary = coco_summary(found.truth, found.detections, network.architecture.num_classes)
    values = (summary.ap50 or 0.0, summary.ap or 0.0)
    named = {metric.name: metric.scale * value for metric, value in zip(task.metrics, values, strict=True)}
    return Tested(named, len(found.numbers))


def _tests(
    split: Files,
    options: DetectorOptions,
    preprocessing: Preprocessing,
    device: torch.device,
    workers: int | None,
    skipped: set[str] | None,
) -> Iterator[Batch]:
    """This process's test images, with their numbers in the split and their boxes."""
    world = World.connected()
    mine = torch.arange(world.rank, len(split), world.size)
    part = split[mine]
    assert part.boxes is not None  # noqa: S101
    for numbers, images in scenes_of(part, preprocessing, device, options.scales, workers, skipped):
        places = torch.tensor(numbers)
        yield images, (mine[places].tolist(), part.boxes[places])
