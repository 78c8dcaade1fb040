"""Detection in tests: proposals, regions at one or two scales, refinement and voting, by one or more detectors.

Appendix B: "box refinement", "global context", "multi-scale testing" and "ensemble".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from resnetlab.data.boxes import Detections
from resnetlab.detection.images import Images, Size
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.proposals import Proposals

LEAST_SIDE = 1e-2  # pixels; smaller boxes are dropped, as in torchvision


@dataclass(frozen=True)
class Predicted:
    """Regions of one image with their class scores, background first, and the boxes of each class."""

    scores: Float[Tensor, "r k"]
    boxes: Float[Tensor, "r k 4"]


@dataclass(frozen=True)
class Map:
    """The shared map of images of one size at one scale, and the images' scale over that of the proposals."""

    x: Float[Tensor, "n d h w"]
    sizes: tuple[Size, ...]
    factors: Float[Tensor, "n 2"]


def detect(networks: Sequence[FasterRCNN], images: Images) -> list[Detections]:
    """What one detector finds in each image, or several together; corners in pixels of the original images.

    Of several detectors the proposals are joined, and the scores and boxes of each are averaged. The options of
    testing are the first one's. Images of one size run together and without padding, so that no image changes
    another's detections.
    """
    found: list[Detections | None] = [None] * len(images)
    with torch.no_grad():
        for numbers in images.by_size():
            for number, detections in zip(numbers, _of_one_size(networks, images, numbers), strict=True):
                found[number] = detections
    return [detections for detections in found if detections is not None]


def adjacent_scales(
    corners: Float[Tensor, "r 4"], factors: Float[Tensor, "s"], canonical: int
) -> list[tuple[int, Tensor]]:
    """For each scale its number and which regions are pooled at it: the two scales around the best one.

    At the best scale a box has an area of `canonical` squared pixels. `factors` are the scales in ascending order,
    over that of the corners. A box that is too large or too small for all scales gets the two that are nearest.
    """
    sides = (corners[:, 2:] - corners[:, :2]).clamp(min=1).prod(1).sqrt()
    upper = torch.searchsorted(factors, canonical / sides).clamp(min(1, len(factors) - 1), len(factors) - 1)
    lower = (upper - 1).clamp(min=0)
    return [(scale, (upper == scale) | (lower == scale)) for scale in range(len(factors))]


def vote(
    kept: Float[Tensor, "d 4"],
    corners: Float[Tensor, "r 4"],
    scores: Float[Tensor, "r"],
    iou: float,
) -> Float[Tensor, "d 4"]:
    """Each kept box becomes the mean of all boxes of its class that overlap it by `iou`, weighted by their scores.

    Gidaris and Komodakis (2015), Section 4. The kept boxes are among the boxes, so each has at least one vote.
    """
    votes = scores * (box_iou(kept, corners) >= iou)
    mean: Tensor = votes @ corners / votes.sum(1, keepdim=True)
    return mean


def suppressed(predicted: Predicted, size: Size, options: DetectorOptions) -> Detections:
    """The detections of one image: by class, non-maximum suppression and, with refinement, voting."""
    count = predicted.scores.shape[1] - 1
    scores = predicted.scores[:, 1:].flatten()
    corners = clip_boxes_to_image(predicted.boxes[:, 1:].reshape(-1, 4), size)
    classes = torch.arange(count, device=scores.device).repeat(len(predicted.scores))
    some = (scores > options.score).nonzero()[:, 0]
    some = some[remove_small_boxes(corners[some], LEAST_SIDE)]
    scores, corners, classes = scores[some], corners[some], classes[some]
    kept = batched_nms(corners, scores, classes, options.nms)[: options.detections]
    final = corners[kept]
    if options.refine:
        for k in range(count):
            mine, own = classes[kept] == k, classes == k
            final[mine] = vote(final[mine], corners[own], scores[own], options.voting)
    return Detections(final, classes[kept], scores[kept])


def _of_one_size(networks: Sequence[FasterRCNN], images: Images, numbers: list[int]) -> list[Detections]:
    options, size = networks[0].options, images.sizes[numbers[0]]
    main = [network.body.shared(images.unpadded(numbers)) for network in networks]
    sizes = (size,) * len(numbers)
    corners = _joined([_proposals(network, x, sizes) for network, x in zip(networks, main, strict=True)], options)
    maps = [_maps(network, x, images, numbers) for network, x in zip(networks, main, strict=True)]

    def predict(regions: list[Tensor]) -> list[Predicted]:
        several = [_predict(network, own, regions) for network, own in zip(networks, maps, strict=True)]
        return [_mean(parts) for parts in zip(*several, strict=True)]

    found = predict(corners)
    if options.refine:
        found = _refined(found, predict, size, options)
    scales = images.scales[numbers].repeat(1, 2)
    parts = [suppressed(each, size, options) for each in found]
    return [
        Detections(part.corners / scale, part.classes, part.scores) for part, scale in zip(parts, scales, strict=True)
    ]


def _proposals(network: FasterRCNN, x: Tensor, sizes: tuple[Size, ...]) -> list[Proposals]:
    logits, deltas = network.proposals(x)
    anchors = network.proposals.grid(x)
    return [network.proposals.best(logits[k], deltas[k], anchors, size) for k, size in enumerate(sizes)]


def _joined(several: list[list[Proposals]], options: DetectorOptions) -> list[Float[Tensor, "_ 4"]]:
    """The proposals of each image; of several detectors together, likeliest first, after suppression."""
    if len(several) == 1:
        return [proposals.corners for proposals in several[0]]
    found = []
    for parts in zip(*several, strict=True):
        corners, scores = (torch.cat([getattr(part, name) for part in parts]) for name in ("corners", "scores"))
        kept = batched_nms(corners, scores, torch.zeros_like(scores, dtype=torch.int64), options.proposal_nms)
        found.append(corners[kept[: options.test_proposals]])
    return found


def _maps(network: FasterRCNN, x: Tensor, images: Images, numbers: list[int]) -> list[Map]:
    """The maps that regions are pooled from: of the images as they are, or at each of the testing scales."""
    sizes = (images.sizes[numbers[0]],) * len(numbers)
    if not images.others:
        return [Map(x, sizes, torch.ones_like(images.scales[numbers]))]
    found = []
    for other in images.others:
        same = (other.sizes[numbers[0]],) * len(numbers)
        y = x if same == sizes else network.body.shared(other.unpadded(numbers))
        found.append(Map(y, same, other.scales[numbers] / images.scales[numbers]))
    return found


def _predict(network: FasterRCNN, maps: list[Map], corners: list[Tensor]) -> list[Predicted]:
    """Scores and boxes of the regions of each image, whose features are the maximum over their scales."""
    counts = [len(part) for part in corners]
    logits, deltas = network.regions(_maximum_over_scales(network, maps, corners))
    scores, boxes = logits.softmax(1), network.regions.decode(deltas, torch.cat(corners))
    return [Predicted(*part) for part in zip(torch.split(scores, counts), torch.split(boxes, counts), strict=True)]


def _maximum_over_scales(network: FasterRCNN, maps: list[Map], corners: list[Tensor]) -> Float[Tensor, "r f"]:
    """The head runs once per region and chosen scale; the two results are merged by maxout (Appendix B)."""
    counts = [len(part) for part in corners]
    factors = torch.stack([each.factors.mean() for each in maps])
    chosen = adjacent_scales(torch.cat(corners), factors, network.options.canonical)
    merged: Tensor | None = None
    for scale, mine in chosen:
        if not mine.any():
            continue
        here, by_image = maps[scale], torch.split(mine, counts)
        scaled = [
            part[own] * factor.repeat(2) for part, own, factor in zip(corners, by_image, here.factors, strict=True)
        ]
        features = network.described(here.x, scaled, here.sizes)
        if merged is None:
            merged = features.new_full((len(mine), features.shape[1]), -torch.inf)
        merged[mine] = torch.maximum(merged[mine], features)
    assert merged is not None, "no regions"  # noqa: S101 -- each region has a scale, and there are regions
    return merged


def _refined(
    found: list[Predicted],
    predict: Callable[[list[Tensor]], list[Predicted]],
    size: Size,
    options: DetectorOptions,
) -> list[Predicted]:
    """The predictions joined by those of the regressed boxes, whose regions are pooled again."""
    classes = found[0].scores.shape[1]
    if options.refined == "likeliest":
        which = [part.scores[:, 1:].argmax(1) + 1 for part in found]
        regions = [part.boxes[torch.arange(len(k)), k] for part, k in zip(found, which, strict=True)]
        again = predict([clip_boxes_to_image(part, size) for part in regions])
        return [_both(first, second) for first, second in zip(found, again, strict=True)]
    regions = [part.boxes[:, 1:].reshape(-1, 4) for part in found]
    again = predict([clip_boxes_to_image(part, size) for part in regions])
    joined = []
    for first, second in zip(found, again, strict=True):
        number = torch.arange(1, classes).repeat(len(first.scores))
        own = torch.zeros_like(second.scores)
        place = torch.arange(len(number))
        own[place, number] = second.scores[place, number]  # of each region only the class whose box it was
        joined.append(_both(first, Predicted(own, second.boxes)))
    return joined


def _both(first: Predicted, second: Predicted) -> Predicted:
    return Predicted(torch.cat([first.scores, second.scores]), torch.cat([first.boxes, second.boxes]))


def _mean(parts: Sequence[Predicted]) -> Predicted:
    if len(parts) == 1:
        return parts[0]
    scores, boxes = (torch.stack([getattr(part, name) for part in parts]).mean(0) for name in ("scores", "boxes"))
    return Predicted(scores, boxes)
