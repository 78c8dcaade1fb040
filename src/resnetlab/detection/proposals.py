"""The region proposal network (Ren et al., 2015): which boxes hold an object of any class?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from resnetlab.data.boxes import Boxes
from resnetlab.detection.images import Size
from resnetlab.detection.options import DetectorOptions

STRIDE = 16  # pixels between the cells of the shared feature map
POSITIVE, NEGATIVE = 0.7, 0.3  # IoU with an object (Ren et al., Section 3.1.2)
IGNORED = -1.0
EVEN = 1 / 2  # share of positive anchors at most


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image in pixels of the scaled image, likeliest first, and their objectness from 0 to 1."""

    corners: Float[Tensor, "k 4"]
    scores: Float[Tensor, "k"]


class ProposalNetwork(nn.Module):
    """A 3x3 convolution on the shared map, then objectness and box of each anchor at each cell."""

    def __init__(self, channels: int, options: DetectorOptions) -> None:
        super().__init__()
        self.options = options
        self.anchors = cell_anchors(options)
        self.head = RPNHead(channels, self.anchors.num_anchors_per_location()[0])
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(POSITIVE, NEGATIVE, allow_low_quality_matches=True)
        self.sampler = BalancedPositiveNegativeSampler(options.anchors_sampled, EVEN)

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k 4"]]:
        """Objectness logits and box regressions of the k anchors, ordered as those of `grid`."""
        (logits,), (deltas,) = self.head([x])
        per_cell = logits.shape[1]
        moved = deltas.float().unflatten(1, (per_cell, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return logits.float().permute(0, 2, 3, 1).flatten(1), moved

    def grid(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "k 4"]:
        """All anchors of a map, in pixels.

        They are 16 pixels apart, as the cells are. torchvision divides the image by the map, which is the same,
        because it pads images to multiples of 32 before.
        """
        height, width = x.shape[2:]
        self.anchors.set_cell_anchors(torch.float32, x.device)
        steps = [torch.tensor(STRIDE, device=x.device)] * 2
        (found,) = self.anchors.grid_anchors([[height, width]], [steps])
        moved: Tensor = found + self.options.anchor_offset
        return moved

    @torch.no_grad()
    def best(
        self,
        logits: Float[Tensor, "k"],
        deltas: Float[Tensor, "k 4"],
        anchors: Float[Tensor, "k 4"],
        size: Size,
    ) -> Proposals:
        """The likeliest boxes of one image after non-maximum suppression, clipped to the image."""
        options = self.options
        if self.training:
            candidates, kept = options.train_candidates, options.train_proposals
        else:
            candidates, kept = options.test_candidates, options.test_proposals
        scores, places = logits.topk(min(candidates, len(logits)))
        corners = self.coder.decode_single(deltas[places], anchors[places])
        corners, scores = clip_boxes_to_image(corners, size), scores.sigmoid()
        large = remove_small_boxes(corners, options.least_side)
        if not len(large):  # so that there is always a region: the whole image
            height, width = size
            return Proposals(corners.new_tensor([[0.0, 0.0, width, height]]), scores.new_zeros(1))
        corners, scores = corners[large], scores[large]
        group = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        chosen = batched_nms(corners, scores, group, options.proposal_nms)[:kept]
        return Proposals(corners[chosen], scores[chosen])

    def losses(
        self,
        logits: Float[Tensor, "n k"],
        deltas: Float[Tensor, "n k 4"],
        anchors: Float[Tensor, "k 4"],
        sizes: tuple[Size, ...],
        boxes: Boxes,
    ) -> tuple[Tensor, Tensor]:
        """Mean losses of objectness and of boxes over the sampled anchors (Ren et al., Eq. 1)."""
        labels, targets = [], []
        for number, size in enumerate(sizes):
            label, nearest = self._matched(anchors, boxes[number].corners, size)
            labels.append(label)
            targets.append(self.coder.encode_single(nearest, anchors))
        positive, negative = (torch.stack(chosen).bool().flatten() for chosen in self.sampler(labels))
        positive, negative = (chosen.nonzero()[:, 0] for chosen in (positive, negative))
        sampled = torch.cat([positive, negative])
        count = max(1, len(sampled))
        label = torch.cat(labels)[sampled]
        objectness = F.binary_cross_entropy_with_logits(logits.flatten()[sampled], label, reduction="sum") / count
        found, wanted = deltas.flatten(0, 1)[positive], torch.cat(targets)[positive]
        return objectness, smooth_l1(found, wanted, self.options.anchor_beta) / count

    def _matched(
        self, anchors: Float[Tensor, "k 4"], objects: Float[Tensor, "m 4"], size: Size
    ) -> tuple[Float[Tensor, "k"], Float[Tensor, "k 4"]]:
        """For each anchor 1 (an object), 0 (none) or IGNORED, and the object's box."""
        labels, nearest = anchors.new_zeros(len(anchors)), anchors
        inside = _inside(anchors, size) if self.options.border == "drop" else None
        overlap = box_iou(objects, anchors)
        if inside is not None:
            overlap = overlap.where(inside, -1.0)  # so that an object's best anchor is one that is trained on
        reached = overlap.amax(1) > 0  # of an object that no anchor overlaps, all anchors would be the best
        overlap, objects = overlap[reached], objects[reached]
        if len(objects):
            matches = self.matcher(overlap)
            labels = (matches >= 0).float().masked_fill(matches == Matcher.BETWEEN_THRESHOLDS, IGNORED)
            nearest = objects[matches.clamp(min=0)]
        if inside is not None:
            labels = labels.masked_fill(~inside, IGNORED)
        return labels, nearest


def cell_anchors(options: DetectorOptions) -> AnchorGenerator:
    """The anchors of one cell, around its corner; `anchor_offset` moves them."""
    return AnchorGenerator((options.anchor_sizes,), (options.anchor_ratios,))


def smooth_l1(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """The summed smooth-L1 loss: quadratic below beta, then linear."""
    return F.smooth_l1_loss(found, wanted, beta=beta, reduction="sum")


def _inside(anchors: Float[Tensor, "k 4"], size: Size) -> Tensor:
    height, width = size
    return (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
