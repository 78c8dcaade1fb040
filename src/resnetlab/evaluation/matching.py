"""Which detections are right: detections are assigned to annotated boxes by the rules of Pascal VOC and of COCO."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.errors import ResnetlabError

TRUE, FALSE, IGNORED = 1, 0, -1  # outcomes of a detection


@dataclass(frozen=True, eq=False)
class Matches:
    """The outcomes of all detections of one class, highest score first.

    Equal scores keep the order of the images and, within an image, of its detections.

    Attributes:
        image: the index of each detection's image.
        scores: the score of each detection.
        outcome: `TRUE`, `FALSE` or `IGNORED` for each detection.
        positives: for each image, how many boxes a detector should find: those neither difficult nor a crowd.
    """

    image: Int64[np.ndarray, "d"]
    scores: Float64[np.ndarray, "d"]
    outcome: Int8[np.ndarray, "d"]
    positives: Int64[np.ndarray, "n"]


def voc_matches(truth: Boxes, found: Sequence[Detections], classes: int, threshold: float = 0.5) -> list[Matches]:
    """Match by the rule of Pascal VOC's devkit (`VOCevaldet.m`), for each class.

    A detection belongs to the box of its class and image with which it has the highest IoU (the first of equal ones).
    If that IoU is at least `threshold`, the detection is ignored where the box is difficult or a crowd, true where no
    detection of a higher score has the box, and false otherwise, even if another box would be free. All other
    detections are false.

    The comparison is `>=`, as in the devkit; py-faster-rcnn and its descendants use `>`. The two differ only where
    the IoU is exactly the threshold. The devkit's pixels are inclusive (width = xmax - xmin + 1), which gives the
    IoU of the corners xmin - 1, ymin - 1, xmax, ymax.

    Raises:
        ResnetlabError: truth and detections are not of the same images, or a class, score or corner is invalid.
    """
    data = pooled(truth, found, classes)
    pairs = _overlapping(data, _checked(threshold), crowd_of_detection=False)
    order = np.lexsort((pairs.box, -pairs.iou, pairs.detection))
    detection, box = pairs.detection[order], pairs.box[order]
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    outcome = _outcomes(detection[first], box[first], data, shareable=data.ignored)
    return _by_class(data, outcome, kept=np.ones(len(outcome), dtype=np.bool_))


def coco_matches(
    truth: Boxes, found: Sequence[Detections], classes: int, threshold: float = 0.5, limit: int = 100
) -> list[Matches]:
    """Match by the rule of COCO's evaluator (`pycocotools`, `COCOeval.evaluateImg`) at one IoU, for each class.

    Detections choose in order of their score. Each takes, of the boxes of its class and image with an IoU of at
    least `threshold`, the one with the highest IoU that no other detection has (the last of equal ones). Difficult
    and crowd boxes are considered only if there is no such box; a detection that takes one is ignored. A crowd can
    be taken many times, and its overlap is the intersection divided by the area of the detection. A difficult box
    can be taken once, by the usual IoU, as COCO's evaluator treats objects outside of the range of sizes.

    Only the `limit` best detections of an image and class count, as in `pycocotools`.

    Raises:
        ResnetlabError: truth and detections are not of the same images, or a class, score or corner is invalid.
    """
    data = pooled(truth, found, classes)
    pairs = _overlapping(data, _checked(threshold), crowd_of_detection=True)
    order = np.lexsort((-pairs.box, -pairs.iou, data.ignored[pairs.box], pairs.detection))
    outcome = _outcomes(pairs.detection[order], pairs.box[order], data, shareable=data.crowd)
    return _by_class(data, outcome, kept=_place_in_image(data) < limit)


@dataclass(frozen=True, eq=False)
class Pooled:
    """The annotated boxes (`box_...`) and the detections of all images as arrays.

    Boxes are sorted by class and image, detections by class and descending score. Both sorts are stable.
    """

    images: int
    classes: int
    box_image: Int64[np.ndarray, "k"]
    box_class: Int64[np.ndarray, "k"]
    box_corners: Float64[np.ndarray, "k 4"]
    difficult: Bool[np.ndarray, "k"]
    crowd: Bool[np.ndarray, "k"]
    image: Int64[np.ndarray, "d"]
    label: Int64[np.ndarray, "d"]
    corners: Float64[np.ndarray, "d 4"]
    scores: Float64[np.ndarray, "d"]

    @property
    def ignored(self) -> Bool[np.ndarray, "k"]:
        """Whether a box is difficult or a crowd."""
        return np.asarray(self.difficult | self.crowd)


def pooled(truth: Boxes, found: Sequence[Detections], classes: int) -> Pooled:
    """Collect the boxes and detections of all images.

    Raises:
        ResnetlabError: truth and detections are not of the same images, or a class, score or corner is invalid.
    """
    if len(truth) != len(found):
        raise ResnetlabError(f"{len(found)} images have detections, but {len(truth)} have annotations; give one each")
    box_image = np.repeat(np.arange(len(truth)), truth.counts.numpy(force=True))
    box_class = truth.classes.numpy(force=True)
    image = np.repeat(np.arange(len(found)), np.array([len(each) for each in found], dtype=np.int64))
    label = np.concatenate([np.zeros(0, np.int64), *(each.classes.numpy(force=True) for each in found)])
    scores = np.concatenate([np.zeros(0), *(each.scores.numpy(force=True) for each in found)])
    boxes, ranked = np.lexsort((box_image, box_class)), np.lexsort((-scores, label))
    corners = np.concatenate([np.zeros((0, 4)), *(each.corners.numpy(force=True) for each in found)])
    result = Pooled(
        images=len(truth),
        classes=classes,
        box_image=box_image[boxes],
        box_class=box_class[boxes],
        box_corners=truth.corners.numpy(force=True).astype(np.float64)[boxes],
        difficult=truth.difficult.numpy(force=True)[boxes],
        crowd=truth.crowd.numpy(force=True)[boxes],
        image=image[ranked],
        label=label[ranked],
        corners=corners[ranked],
        scores=scores[ranked],
    )
    _check(result)
    return result


def _check(data: Pooled) -> None:
    for name, labels in (("an annotated box", data.box_class), ("a detection", data.label)):
        wrong = labels[(labels < 0) | (labels >= data.classes)]
        if len(wrong):
            raise ResnetlabError(f"{name} has class {wrong[0]}; with {data.classes} classes, use 0 to classes - 1")
    for name, numbers, image in (
        ("corners of an annotated box", data.box_corners, data.box_image),
        ("corners of a detection", data.corners, data.image),
        ("score of a detection", data.scores[:, None], data.image),
    ):
        wrong = image[~np.isfinite(numbers).all(1)]
        if len(wrong):
            raise ResnetlabError(f"image {wrong[0]}: the {name} must be finite; a diverged detector gives NaN")


def _checked(threshold: float) -> float:
    if not 0 < threshold <= 1:
        raise ResnetlabError(f"an IoU threshold of {threshold}; give one above 0 and at most 1, as 0.5")
    return threshold


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Detections and boxes of one image and class that overlap, by their places in `Pooled`."""

    detection: Int64[np.ndarray, "p"]
    box: Int64[np.ndarray, "p"]
    iou: Float64[np.ndarray, "p"]


def _overlapping(data: Pooled, threshold: float, crowd_of_detection: bool) -> _Pairs:
    """All pairs with an IoU of at least `threshold`; that of a crowd may be relative to the detection's area."""
    group = data.box_class * data.images + data.box_image
    wanted = data.label * data.images + data.image
    start, end = np.searchsorted(group, wanted, "left"), np.searchsorted(group, wanted, "right")
    count = end - start
    detection = np.repeat(np.arange(len(wanted)), count)
    box = np.arange(count.sum()) + np.repeat(start - (count.cumsum() - count), count)
    a, b = data.corners[detection], data.box_corners[box]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    overlap = np.where((sides > 0).all(1), sides.prod(1), 0)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    whole = np.where(data.crowd[box] & crowd_of_detection, area_a, area_a + area_b - overlap)
    iou = np.divide(overlap, whole, out=np.zeros(len(overlap)), where=overlap > 0)
    near = iou >= threshold
    return _Pairs(detection[near], box[near], iou[near])


def _outcomes(
    detection: Int64[np.ndarray, "p"], box: Int64[np.ndarray, "p"], data: Pooled, shareable: Bool[np.ndarray, "k"]
) -> Int8[np.ndarray, "d"]:
    """Each detection takes the first of its boxes that is free or `shareable`; detections come in order."""
    outcome = np.full(len(data.scores), FALSE, dtype=np.int8)
    free, meaning = np.ones(len(data.crowd), dtype=np.bool_).tolist(), np.where(data.ignored, IGNORED, TRUE).tolist()
    shared, last = shareable.tolist(), -1
    for one, chosen in zip(detection.tolist(), box.tolist(), strict=True):
        if one != last and (free[chosen] or shared[chosen]):
            free[chosen], last = False, one
            outcome[one] = meaning[chosen]
    return outcome


def _place_in_image(data: Pooled) -> Int64[np.ndarray, "d"]:
    """How many detections of the same image and class come before each."""
    group = data.label * data.images + data.image
    order = np.argsort(group, kind="stable")
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order], "left")
    return place


def _by_class(data: Pooled, outcome: Int8[np.ndarray, "d"], kept: Bool[np.ndarray, "d"]) -> list[Matches]:
    group = (data.box_class * data.images + data.box_image)[~data.ignored]
    positives = np.bincount(group, minlength=data.classes * data.images).reshape(data.classes, data.images)
    image, scores, outcome = data.image[kept], data.scores[kept], outcome[kept]
    ends = np.searchsorted(data.label[kept], np.arange(data.classes), "right")
    starts = [0, *ends[:-1]]
    return [
        Matches(image[start:end], scores[start:end], outcome[start:end], positives[k])
        for k, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
