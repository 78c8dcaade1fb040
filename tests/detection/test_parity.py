"""With the options of torchvision the detector is torchvision's, on the same layers."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as Peer
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.detection.images import Images
from resnetlab.detection.network import FasterRCNN

Make = Callable[..., FasterRCNN]
Show = Callable[..., Images]
OBJECTS = [
    Boxes.of(torch.tensor([[10, 10, 60, 50], [70, 20, 120, 60]]), [0, 2]),
    Boxes.of([], []),
    Boxes.of(torch.tensor([[30, 20, 90, 60], [32, 18, 100, 62], [1, 2, 14, 20]]), [1, 1, 0]),
]


class Shared(nn.Module):
    """The layers of a detector that run once per image."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.run = network.body.shared
        self.out_channels = network.body.channels

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Call(nn.Module):
    """A function as a module, without its parameters."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def peer(network: FasterRCNN) -> Peer:
    """torchvision's detector of the layers of ours."""
    options, regions = network.options, network.regions
    made = Peer(
        Shared(network),
        min_size=8,
        max_size=4096,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator((options.anchor_sizes,), (options.anchor_ratios,)),
        rpn_head=network.proposals.head,
        rpn_post_nms_top_n_test=options.test_proposals,  # the only two that are not torchvision's, to save time
        box_batch_size_per_image=options.boxes_sampled,
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=Call(network.body.head),
        box_predictor=Call(lambda x: (regions.cls_score(x), regions.bbox_pred(x))),
    )
    made.transform.resize = lambda image, target=None: (image, target)
    return made


def losses_of(other: Peer, images: Images) -> Tensor:
    boxes = images.boxes
    assert boxes is not None
    targets = [{"boxes": boxes[k].corners, "labels": boxes[k].classes + 1} for k in range(len(images))]
    with torch.random.fork_rng([]):
        torch.manual_seed(images.key)
        found = other.train()(list(images.pixels), targets)
    names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    return torch.stack([found[name] for name in names])


def trained(network: FasterRCNN) -> FasterRCNN:
    """In training mode, but with the statistics of batch normalisation as they are."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def gradients(network: FasterRCNN, losses: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    losses.sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["resnet50-v1.5-narrow8", "resnet18-narrow8"])
@pytest.mark.parametrize("objects", [OBJECTS[:1], OBJECTS[1:2], OBJECTS], ids=["one", "none", "three"])
def test_losses_and_gradients(make: Make, show: Show, name: str, objects: Sequence[Boxes]) -> None:
    network = trained(make(name, preset="torchvision", anchor_sizes=(16, 32, 64), boxes_sampled=48))
    images = show([(64, 128)] * len(objects), objects)
    ours = network(images)
    theirs = losses_of(peer(network), images)
    some = any(len(boxes.classes) for boxes in objects)
    assert (ours > 0).tolist() == [True, some, True, some]
    assert torch.allclose(ours, theirs, rtol=1e-5)
    one, other = gradients(network, ours), gradients(network, theirs)
    assert one.keys() == other.keys() == dict(network.named_parameters()).keys()
    for key in one:
        assert (one[key] - other[key]).abs().max() <= 1e-4 * other[key].abs().max() + 1e-6, key


@pytest.mark.parametrize("name", ["resnet50-v1.5-narrow8", "resnet18-narrow8"])
def test_detections(make: Make, show: Show, alike: Callable[..., None], name: str) -> None:
    """Images of different sizes: ours run together, torchvision's one by one, for it pads."""
    network = make(name, preset="torchvision", anchor_sizes=(16, 32, 64), test_proposals=100)
    images = show([(64, 96), (96, 64), (64, 96)])
    found = network(images)
    with torch.no_grad():
        other = peer(network).eval()
        for k, (height, width) in enumerate(images.sizes):
            (theirs,) = other([images.pixels[k, :, :height, :width]])
            assert len(found[k]) > 5
            alike(found[k], Detections(theirs["boxes"], theirs["labels"] - 1, theirs["scores"]))


@pytest.mark.parametrize(("height", "width"), [(600, 1000), (562, 1000), (64, 96)])
def test_anchors_of_images_of_any_size(make: Make, height: int, width: int) -> None:
    """torchvision pads images to multiples of 32, so that its anchors are always 16 pixels apart."""
    network = make("resnet18-narrow16", preset="torchvision", anchor_sizes=(16, 32, 64))
    cells = -(-height // 16), -(-width // 16)
    ours = network.proposals.grid(torch.zeros(1, 1, *cells)).reshape(*cells, 9, 4)
    padded = ImageList(torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32), [(height, width)])
    theirs = AnchorGenerator(((16, 32, 64),), ((0.5, 1.0, 2.0),))
    down, right = padded.tensors.shape[2] // 16, padded.tensors.shape[3] // 16
    (anchors,) = theirs(padded, [torch.zeros(1, 1, down, right)])
    assert torch.equal(ours, anchors.reshape(down, right, 9, 4)[: cells[0], : cells[1]])
