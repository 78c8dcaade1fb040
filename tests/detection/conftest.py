"""What the tests of detection share: small detectors, batches of images, and a data set of squares."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.detection.images import Images, Size
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.networks.architecture import parse
from resnetlab.networks.statistics import set_exact_statistics

FEW = {"anchor_sizes": (16, 32, 64), "train_proposals": 60, "test_proposals": 40, "least_side": 4.0}
Make = Callable[..., FasterRCNN]
Show = Callable[..., Images]


@pytest.fixture(scope="session")
def options() -> Callable[..., DetectorOptions]:
    """Options for tiny images: few proposals; others by name, `preset` among them."""

    def options(preset: str = "small", **given: object) -> DetectorOptions:
        return DetectorOptions(**{**PRESETS[preset], **(FEW if preset == "small" else {}), **given})  # type: ignore[arg-type]

    return options


@pytest.fixture(scope="session")
def show() -> Show:
    """A batch of random images of these sizes, with boxes or not, padded to the largest."""

    def show(
        sizes: Sequence[Size], boxes: Sequence[Boxes] | None = None, seed: int = 0, scale: float = 1.0
    ) -> Images:
        generator = torch.Generator().manual_seed(seed)
        height, width = (max(size[k] for size in sizes) for k in (0, 1))
        canvas = torch.zeros(len(sizes), 3, height, width)
        for place, (h, w) in zip(canvas, sizes, strict=True):
            coarse = torch.randn(1, 3, 5, 5, generator=generator)
            place[:, :h, :w] = nn.functional.interpolate(coarse, (h, w), mode="bilinear")[0]
        joined = None if boxes is None else Boxes.joined(boxes)
        return Images(canvas, tuple(sizes), torch.full((len(sizes), 2), scale), joined, key=seed + 5)

    return show


@pytest.fixture(scope="session")
def make(options: Callable[..., DetectorOptions], show: Show) -> Make:
    """A detector whose activations keep their size, and whose last layers are decided enough to find something."""

    def make(name: str, classes: int = 3, seed: int = 0, **given: object) -> FasterRCNN:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            network = FasterRCNN(replace(parse(name), num_classes=classes), options(**given))
            head, regions = network.proposals.head, network.regions
            scales = {head.conv[0][0]: 1.0, head.cls_logits: 0.5, head.bbox_pred: 0.1}
            scales |= {regions.cls_score: 0.5, regions.bbox_pred: 0.2}
            for layer, scale in scales.items():
                nn.init.normal_(layer.weight, std=scale / layer.weight[0].numel() ** 0.5)
            if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
                boxes = [Boxes.of(torch.tensor([[8, 8, 40, 44]]), [0])] * 2
                set_exact_statistics(network, iter([show([(64, 64), (64, 64)], boxes, seed=9)]))
            return network.eval()

    return make


@pytest.fixture(scope="session")
def alike() -> Callable[..., None]:
    """Asserts that detections are the same up to rounding, which may swap two of about the same score."""

    def alike(found: Detections, other: Detections, score: float = 1e-4, pixels: float = 1e-2) -> None:
        assert len(found) == len(other)
        same = found.classes[:, None] == other.classes
        same &= (found.scores[:, None] - other.scores).abs() <= score
        same &= ((found.corners[:, None] - other.corners).abs() <= pixels).all(2)
        assert same.any(0).all()
        assert same.any(1).all()

    return alike


@pytest.fixture(scope="session")
def squares() -> Dataset:
    """8 + 4 images of 56 to 96 pixels with 0 to 3 red or green squares."""

    def part(name: str, count: int, seed: int) -> Files:
        random = np.random.default_rng(seed)
        files, boxes = [], []
        for k in range(count):
            height, width = (int(side) for side in random.integers(56, 97, 2))
            pixels = random.integers(0, 90, (height, width, 3))
            corners, classes = [], []
            for _ in range(k % 4):
                side, kind = int(random.integers(14, 40)), int(random.integers(2))
                left, top = int(random.integers(width - side)), int(random.integers(height - side))
                pixels[top : top + side, left : left + side, kind] = random.integers(150, 255, (side, side))
                corners.append([left, top, left + side, top + side])
                classes.append(kind)
            files.append(File(f"{name}-{k}", f"squares, {name} {k}", pixels=pixels.astype(np.uint8)))
            boxes.append(Boxes.of(torch.tensor(corners), classes))
        return Files(tuple(files), torch.zeros(count, 0), Boxes.joined(boxes))

    return Dataset(
        "squares", ("red", "green"), part("train", 8, 0), part("test", 4, 1), made_from="squares of seed 0"
    )
