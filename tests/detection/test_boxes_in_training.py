"""Which boxes training learns from, and that none of them, however small or large, makes a loss infinite."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import File, Files
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.stream import SceneStream
from resnetlab.networks.architecture import parse
from resnetlab.tasks.detection import detection
from resnetlab.training.loop import Report, launched, objective, start, train
from resnetlab.training.named_recipes import DETECTION

Make = Callable[..., FasterRCNN]
Options = Callable[..., DetectorOptions]
CPU = torch.device("cpu")
USUAL = Preprocessing.by_channel(Fit.uncropped(64, 96), IMAGENET_MEAN, IMAGENET_STD)
SIZE = 80, 128

# Which anchors and regions are objects, written out


def overlaps(anchors: Tensor, objects: Tensor) -> list[list[float]]:
    found = []
    for a in anchors.tolist():
        row = []
        for b in objects.tolist():
            width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
            common = max(width, 0) * max(height, 0)
            row.append(common / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - common))
        found.append(row)
    return found


@pytest.mark.parametrize("border", ["keep", "drop"])
@pytest.mark.parametrize(
    "objects",
    [
        [[10, 10, 50, 40], [60, 20, 90, 70], [100, 3, 104, 8]],
        [[0, 0, 128, 80]],
        [[0, 0, 3, 3], [40, 20, 80, 60]],  # with border=drop no anchor reaches the first
        [[0, 0, 1, 1]],
        [[30, 30, 60, 60], [30, 30, 60, 60], [31, 30, 60, 61]],
    ],
)
def test_anchors_that_are_learnt_from(make: Make, border: str, objects: list[list[int]]) -> None:
    """Ren et al., Section 3.1.2: IoU of 0.7, or the best of an object; none below 0.3; others are ignored."""
    network = make("resnet18-narrow16", border=border, anchor_sizes=(24, 48)).proposals
    anchors, corners = network.grid(torch.zeros(1, 1, 5, 8)), torch.tensor(objects).float()
    labels, nearest = network._matched(anchors, corners, SIZE)
    inside = [a[0] >= 0 and a[1] >= 0 and a[2] <= 128 and a[3] <= 80 for a in anchors.tolist()]
    used = [k for k in range(len(anchors)) if border == "keep" or inside[k]]
    table = overlaps(anchors, corners)
    best = [max(table[k][m] for k in used) for m in range(len(objects))]
    for k in range(len(anchors)):
        if k not in used:
            assert labels[k] == -1
            continue
        is_best = any(best[m] > 0 and table[k][m] >= best[m] - 1e-6 for m in range(len(objects)))
        highest = max(table[k])
        assert labels[k] == (1 if highest >= 0.7 or is_best else 0 if highest < 0.3 else -1)
        if labels[k] == 1:
            assert table[k][objects.index(nearest[k].int().tolist())] == pytest.approx(highest)


def test_an_object_that_no_anchor_reaches_makes_none_positive(make: Make) -> None:
    """All anchors overlap it equally, by nothing, which is not its best."""
    network = make("resnet18-narrow16", border="drop", anchor_sizes=(40, 56)).proposals
    anchors = network.grid(torch.zeros(1, 1, 5, 8))
    labels, _ = network._matched(anchors, torch.tensor([[0.0, 0.0, 3.0, 3.0]]), SIZE)
    assert (labels == 0).sum() > 5
    assert not (labels == 1).any()
    labels, nearest = network._matched(anchors, torch.tensor([[0.0, 0.0, 3.0, 3.0], [20.0, 10.0, 80.0, 70.0]]), SIZE)
    assert (nearest[labels == 1] == torch.tensor([20.0, 10.0, 80.0, 70.0])).all()
    assert 1 <= (labels == 1).sum() <= 4


def test_regions_that_are_learnt_from(make: Make) -> None:
    """Those of an IoU of 0.5 are objects, and the objects themselves; a quarter of the sample at most."""
    network = make("resnet18-narrow16", boxes_sampled=16).regions
    boxes = Boxes.of(torch.tensor([[10, 10, 50, 50], [60, 20, 100, 60]]), [2, 0])
    near = torch.tensor([[10.0, 10.0, 50.0, 30.0], [10.0, 10.0, 50.0, 29.0]])  # IoU 0.5 and less
    sample = network.sample([near], boxes)
    assert sample.classes.tolist() == [3, 0, 3, 1]
    assert sample.corners[0].tolist() == [*near.tolist(), *boxes.corners.tolist()]
    width = height = torch.tensor([40.0, 20.0])
    assert sample.targets[0].tolist() == pytest.approx(
        [0, 10 * 0.5, 0, 5 * float(torch.log(width[0] / height[1]))], abs=1e-5
    )
    assert not sample.targets[2:].any()
    many = near[:1].repeat(30, 1)
    assert (network.sample([many], boxes).classes > 0).sum() == 4
    empty = network.sample([near], Boxes.of([], []))
    assert empty.classes.tolist() == [0, 0]


# Training on what data sets contain


def part(count: int) -> Files:
    """Boxes of less than a pixel to 3 pixels, touching, overlapping, equal, across the border, one, or none."""
    random = np.random.default_rng(0)
    files, boxes = [], []
    for k in range(count):
        height, width = (int(side) for side in random.integers(40, 120, 2))
        if k == 7:
            height, width = 400, 12
        pixels = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
        w, h = float(width), float(height)
        kinds = [
            [[3.0, 4.0, 4.0, 5.0], [w - 1, h - 3, w, h], [0.0, 0.0, 2.0, 1.0]],
            [[0.0, 0.0, w / 2, h], [w / 2, 0.0, w, h]],
            [[5.0, 5.0, 30.0, 30.0], [5.0, 5.0, 30.0, 30.0], [6.0, 5.0, 30.0, 32.0], [10.0, 10.0, 12.0, 12.0]],
            [[-10.0, -10.0, 20.0, 20.0], [w - 5, h - 5, w + 30, h + 30]],
            [],
            [[0.0, 0.0, w, h]],
            [[1.5, 2.25, 1.75, 2.5], [0.0, 3.0, w, 3.5]],
            [[0.0, 0.0, 12.0, 5.0]],
            [[-0.5, 0.0, 0.25, 40.0]],
        ]
        own = kinds[k % len(kinds)]
        files.append(File(f"{k}", f"hard, {k}", pixels=pixels))
        boxes.append(Boxes.of(torch.tensor(own), [m % 2 for m in range(len(own))]))
    return Files(tuple(files), torch.zeros(count, 0), Boxes.joined(boxes))


CASES = {
    "small": {"preset": "small"},
    "no anchor is inside": {"preset": "small", "border": "drop", "anchor_sizes": (128, 256)},
    "some are inside": {"preset": "small", "border": "drop", "anchor_sizes": (8, 32)},
    "no least side": {"preset": "small", "least_side": 0.0, "pooling": "align", "pool_size": 7, "context": True},
    "absolute losses": {
        "preset": "small",
        "anchor_beta": 0.0,
        "box_beta": 0.0,
        "boxes_sampled": 4,
        "anchors_sampled": 2,
    },
    "torchvision": {"preset": "torchvision", "boxes_sampled": 32, "anchor_sizes": (8, 64)},
}


FAST = ("no anchor is inside", "no least side", "torchvision")


def trained(options: DetectorOptions, steps: int, name: str = "resnet18-narrow16") -> Iterator[dict[str, float]]:
    """The losses of each step; the loop raises if one is not finite."""
    recipe = replace(DETECTION.scaled(steps), batch_size=2, ramp_up=2, learning_rate=0.01, report_every=1)
    task = detection(options)
    network = task.network(replace(parse(name), num_classes=2), 0)
    state = start(network, recipe, CPU, 5)
    stream = SceneStream(part(9), USUAL, 2, 0, CPU, threads=1)
    forward = objective(network, recipe, CPU, lambda losses, images: losses.sum(), task.sums)
    for event in train(state, launched(stream, forward, recipe), recipe, task.means):
        if isinstance(event, Report):
            yield event.metrics
    state.check_finite()
    stream.close()


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        *((case, 15) for case in FAST),
        *(pytest.param(case, 200, marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_losses_stay_finite(options: Options, case: str, steps: int) -> None:
    found = list(trained(options(**CASES[case]), steps))
    assert len(found) == steps
    for metrics in found:
        assert list(metrics) == ["objectness loss", "proposal loss", "class loss", "box loss", "loss"]
        assert all(0 <= value < 100 for value in metrics.values()), metrics
        assert metrics["loss"] == pytest.approx(
            sum(value for name, value in metrics.items() if name != "loss"), rel=1e-5
        )
    objectness = [metrics["objectness loss"] for metrics in found]
    assert any(objectness) == (case != "no anchor is inside")
    assert any(metrics["proposal loss"] for metrics in found) == (case != "no anchor is inside")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16-narrow16", "resnet50-v1.5-narrow16"])
def test_losses_of_other_networks_stay_finite(options: Options, name: str) -> None:
    assert len(list(trained(options(), 200, name))) == 200
