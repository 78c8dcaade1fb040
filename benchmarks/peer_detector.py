"""Torchvision's own `FasterRCNN`, put together from a copy of the parts of one of ours, to measure ours against.

Each is called as its users call it, from the same 8-bit pixels; and are the results the same?
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as Theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.images import Images, Size
from resnetlab.detection.network import Body, FasterRCNN, detector
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.proposals import STRIDE
from resnetlab.detection.stream import Scene, collate
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse

CLASSES = 20
SHARPER = 450.0  # factor of the last layer's random weights, over the root of the features
OBJECTS = 8  # in an image
KEY = 7  # of the random samples in training
SAME_BOX, SAME_SCORE = 0.2, 5e-3  # greatest differences by rounding, in pixels and from 0 to 1
SAME_LOSSES = 1e-4, 1e-4, 1e-2, 1e-2  # likewise, relative
AGREED = 0.98  # of the detections at least: rounding can decide which of two boxes suppresses the other
PREPROCESSING = Preprocessing.by_channel(Fit.uncropped(600, 1000), IMAGENET_MEAN, IMAGENET_STD)
LOSSES = "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"
"""In the order of ours."""
Target = dict[str, Tensor]
T = TypeVar("T")


def peer(network: FasterRCNN) -> nn.Module:
    """The same detector by torchvision, in the memory format that one gets; `network` has the preset `torchvision`.

    Its transform normalises only: images are not scaled, and not padded to multiples of 32, so that both compute on
    the same pixels.
    """
    body = copy.deepcopy(network.body).to(memory_format=torch.contiguous_format)
    options = network.options
    theirs: nn.Module = Theirs(
        Shared(body),
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        rpn_anchor_generator=Anchors((options.anchor_sizes,), (options.anchor_ratios,)),
        rpn_head=copy.deepcopy(network.proposals.head).to(memory_format=torch.contiguous_format),
        box_roi_pool=MultiScaleRoIAlign(["0"], network.body.pool_size, 2),
        box_head=Head(body),
        box_predictor=Predictor(network),
        size_divisible=1,
    )
    theirs.get_submodule("transform").resize = lambda image, target=None: (image, target)  # type: ignore[assignment]
    return theirs


class Anchors(AnchorGenerator):
    """Anchors 16 pixels apart, as with the padding; without it, they would be 15 apart where 16 does not divide."""

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """The anchors of each map."""
        steps = [[torch.full_like(stride, STRIDE) for stride in pair] for pair in strides]
        found: list[Tensor] = super().grid_anchors(grid_sizes, steps)
        return found


class Shared(nn.Module):
    """The shared layers as torchvision's detector wants them."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body, self.out_channels = body, body.channels

    def forward(self, x: Tensor) -> Tensor:
        """The shared map."""
        return self.body.shared(x)


class Head(nn.Module):
    """The layers for each region."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """The regions' features."""
        return self.body.head(x)


class Predictor(nn.Module):
    """The two last layers."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.cls_score = copy.deepcopy(network.regions.cls_score)
        self.bbox_pred = copy.deepcopy(network.regions.bbox_pred)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and boxes."""
        return self.cls_score(x), self.bbox_pred(x)


def made(name: str, options: DetectorOptions, size: Size, device: torch.device) -> FasterRCNN:
    """A detector with random weights and the batch statistics of an image, channels last as in training."""
    row = replace(parse(name), num_classes=CLASSES)
    network = detector(options, row, 0).to(device).to(memory_format=torch.channels_last)
    network.regions.cls_score.weight.data.mul_(SHARPER / network.body.features**0.5)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(as_ours([scene(size, 0)], device))
    for norm in norms:
        norm.momentum = 0.1
    return network


def tested(network: FasterRCNN) -> FasterRCNN:
    """Ready for tests, as `resnetlab evaluate` has it."""
    if next(network.parameters()).device.type == "cpu":
        network.fuse()
    return network.eval()


def scene(size: Size, seed: int) -> Scene:
    """A random image with soft patches and objects of many sizes."""
    random, (height, width) = np.random.default_rng(seed), size
    coarse = Image.fromarray(random.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    sides = np.exp(random.uniform(np.log(40), np.log(min(size)), (OBJECTS, 2)))
    start = random.uniform(0, 1, (OBJECTS, 2)) * ((width, height) - sides)
    corners = np.concatenate([start, start + sides], 1).tolist()
    return Scene(pixels, (1.0, 1.0), Boxes.of(corners, random.integers(0, CLASSES, OBJECTS).tolist()))


def as_ours(scenes: Sequence[Scene], device: torch.device) -> Images:
    """The batch that our detector is given."""
    return collate(scenes, PREPROCESSING.to(device), device, KEY)


def our_detections(network: nn.Module, scene: Scene, device: torch.device) -> Detections:
    """What ours finds in an image."""
    (found,) = network(as_ours([scene], device))
    assert isinstance(found, Detections)
    return found


def our_losses(network: nn.Module, scenes: Sequence[Scene], device: torch.device) -> Tensor:
    """The four losses of ours."""
    losses: Tensor = network(as_ours(scenes, device))
    return losses


def difference_of_scores(ours: nn.Module, theirs: nn.Module, scene: Scene, device: torch.device) -> float:
    """The greatest difference in score of the boxes that both find.

    Raises:
        ResnetlabError: they find different boxes, or nothing.
    """
    found, expected = our_detections(ours, scene, device), their_detections(theirs, scene, device)
    count = len(expected["labels"])
    if not len(found) or not count:
        raise ResnetlabError("nothing is found, so there is nothing to compare; raise SHARPER")
    far = (expected["boxes"][:, None] - found.corners).abs().amax(2)
    far[expected["labels"][:, None] != found.classes + 1] = torch.inf
    distance, which = far.min(1)
    apart = (expected["scores"] - found.scores[which]).abs()
    same = (distance <= SAME_BOX) & (apart <= SAME_SCORE)
    if same.sum() < AGREED * max(count, len(found)):
        raise ResnetlabError(f"torchvision finds {count} boxes, ours {len(found)}; {int(same.sum())} are the same")
    return float(apart[same].max())


def differences_of_losses(
    network: nn.Module, theirs: nn.Module, scenes: Sequence[Scene], device: torch.device
) -> list[float]:
    """The relative differences of the four losses in training, with the same random samples.

    Rounding changes the order of proposals that score nearly the same, and so which of them are sampled: the losses
    of regions differ a little, and rarely much; then the images are tried in another order.

    Raises:
        ResnetlabError: they differ by more than that.
    """
    for turned in range(len(scenes) + 1):
        several = [*scenes[turned:], *scenes[:turned]]
        with torch.no_grad():
            own = our_losses(copy.deepcopy(network).train(), several, device)
            torch.manual_seed(KEY)  # as ours does
            expected = their_losses(copy.deepcopy(theirs).train(), several, device)
        found = ((own - expected) / expected).abs().tolist()
        if all(difference <= most for difference, most in zip(found, SAME_LOSSES, strict=True)):
            return [float(difference) for difference in found]
    raise ResnetlabError(f"torchvision's losses are {expected.tolist()}, ours {own.tolist()}")


def as_theirs(scenes: Sequence[Scene], device: torch.device) -> list[Tensor]:
    """Images from 0 to 1, as torchvision's `ToTensor` makes them."""
    return [
        torch.from_numpy(scene.pixels).to(device).permute(2, 0, 1).contiguous().float().div(255) for scene in scenes
    ]


def targets(scenes: Sequence[Scene], device: torch.device) -> list[Target]:
    """The boxes; class 0 is the background."""
    several = [scene.boxes for scene in scenes if scene.boxes is not None]
    return [{"boxes": boxes.corners.to(device), "labels": boxes.classes.to(device) + 1} for boxes in several]


def their_detections(theirs: nn.Module, scene: Scene, device: torch.device) -> Target:
    """Boxes, labels from 1 and scores of an image."""
    with torch.no_grad():
        (found,) = theirs(as_theirs([scene], device))
    return dict(found)


def their_losses(theirs: nn.Module, scenes: Sequence[Scene], device: torch.device) -> Tensor:
    """The four losses, in the order of ours."""
    losses = theirs(as_theirs(scenes, device), targets(scenes, device))
    return torch.stack([losses[name] for name in LOSSES])


def autocast(function: Callable[..., T], device: torch.device, enabled: bool) -> Callable[..., T]:
    """The function in bfloat16, if enabled; by call, because the rounded weights are kept until the end of it."""

    def called(*arguments: Any) -> T:
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            return function(*arguments)

    return called


def stepping(
    network: nn.Module, losses: Callable[[nn.Module, Sequence[Scene], torch.device], Tensor]
) -> Callable[[Sequence[Scene], torch.device], None]:
    """A training step of a detector: forward, backward and SGD with momentum, of all parameters."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def step(scenes: Sequence[Scene], device: torch.device) -> None:
        value = losses(network, scenes, device).sum()
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
