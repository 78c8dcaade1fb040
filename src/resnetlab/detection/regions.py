"""What is done with each region: pooling, the sample to learn from, and the two sibling layers (Girshick, 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.ops import box_iou, roi_align, roi_pool

from resnetlab.data.boxes import Boxes
from resnetlab.detection.options import DetectorOptions, Pooling
from resnetlab.detection.proposals import STRIDE, smooth_l1

OBJECT = 0.5  # IoU with an object from which on a proposal is one (Girshick, Section 2.3)
QUARTER = 0.25  # share of objects in the sample at most
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over the standard deviations that Fast R-CNN's code assumes
BACKGROUND = 0
SAMPLES = 2  # per side of a bin in RoIAlign, as torchvision's detectors have it


@dataclass(frozen=True)
class Sample:
    """Proposals to learn from, by image, and over all images their classes (0: none) and box targets."""

    corners: list[Float[Tensor, "_ 4"]]
    classes: Int64[Tensor, "r"]
    targets: Float[Tensor, "r 4"]


class Regions(nn.Module):
    """Class scores and one box per class, from a region's features."""

    def __init__(self, features: int, classes: int, options: DetectorOptions) -> None:
        super().__init__()
        self.options = options
        inputs = 2 * features if options.context else features
        self.cls_score = nn.Linear(inputs, classes + 1)
        self.bbox_pred = nn.Linear(inputs, 4 * (classes + 1))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.coder = BoxCoder(WEIGHTS)
        self.matcher = Matcher(OBJECT, OBJECT, allow_low_quality_matches=False)
        self.sampler = BalancedPositiveNegativeSampler(options.boxes_sampled, QUARTER)

    def forward(self, x: Float[Tensor, "r f"]) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r k 4"]]:
        """Class logits, background first, and box regressions by class."""
        deltas: Tensor = self.bbox_pred(x)
        return self.cls_score(x).float(), deltas.float().reshape(len(x), -1, 4)

    @torch.no_grad()
    def sample(self, proposals: Sequence[Float[Tensor, "_ 4"]], boxes: Boxes) -> Sample:
        """A random sample of proposals and objects, at most a quarter of them on objects."""
        corners, classes, targets = [], [], []
        for number, found in enumerate(proposals):
            own = boxes[number]
            found = torch.cat([found, own.corners])
            label = found.new_zeros(len(found), dtype=torch.int64)
            nearest = found
            if len(own.corners):
                matches = self.matcher(box_iou(own.corners, found))
                nearest = own.corners[matches.clamp(min=0)]
                label = (own.classes[matches.clamp(min=0)] + 1).masked_fill(matches < 0, BACKGROUND)
            (positive,), (negative,) = self.sampler([label])
            chosen = (positive | negative).bool()
            corners.append(found[chosen])
            classes.append(label[chosen])
            targets.append(self.coder.encode_single(nearest[chosen], found[chosen]))
        return Sample(corners, torch.cat(classes), torch.cat(targets))

    def losses(self, features: Float[Tensor, "r f"], sample: Sample) -> tuple[Tensor, Tensor]:
        """Mean losses of classes and of boxes over the sample (Girshick, Eqs. 1 to 3)."""
        logits, deltas = self(features)
        count = max(1, len(sample.classes))
        classes = F.cross_entropy(logits, sample.classes, reduction="sum") / count
        objects = (sample.classes > BACKGROUND).nonzero()[:, 0]
        found, wanted = deltas[objects, sample.classes[objects]], sample.targets[objects]
        return classes, smooth_l1(found, wanted, self.options.box_beta) / count

    def decode(self, deltas: Float[Tensor, "r k 4"], corners: Float[Tensor, "r 4"]) -> Float[Tensor, "r k 4"]:
        """The boxes of each class, from regressions relative to the regions."""
        boxes: Tensor = self.coder.decode_single(deltas.flatten(1), corners)
        return boxes.reshape(deltas.shape)


def pooled(
    x: Float[Tensor, "n d h w"], corners: Sequence[Float[Tensor, "_ 4"]], size: int, kind: Pooling
) -> Float[Tensor, "r d size size"]:
    """Regions of each image, in pixels, cut out of the shared map and pooled to `size` x `size`."""
    regions, scale = list(corners), 1 / STRIDE
    if kind == "pool":
        found = roi_pool(x.float(), regions, size, scale)
    else:
        found = roi_align(x.float(), regions, size, scale, SAMPLES)
    y: Tensor = found.to(x.dtype).contiguous(memory_format=torch.channels_last)
    return y
