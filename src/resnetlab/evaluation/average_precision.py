"""Average precision by the rules of COCO and Pascal VOC, and how sure the difference of two detectors is.

All values are fractions from 0 to 1. A class without a box that is to be found has no average precision: None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.matching import IGNORED, TRUE, Matches, pooled

ApRule = Literal["101 points", "11 points", "area"]
POINTS = {"101 points": np.linspace(0, 1, 101), "11 points": np.arange(11) / 10}
BEYOND_ALL_SIZES = 1e11  # COCO's evaluator ignores boxes of an area above 1e5 squared in every range of sizes
AT_ONCE = 2**21  # numbers in the largest arrays
FEWEST = 100  # resamples


@dataclass(frozen=True)
class CocoSummary:
    """COCO's measures; None where no box is of the size or class.

    Attributes:
        ap: mean over the IoU thresholds 0.5, 0.55, ..., 0.95 and over the classes, COCO's "AP".
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: as `ap`, of boxes with an area of at most 32 squared pixels.
        ap_medium: of 32 squared to 96 squared.
        ap_large: of at least 96 squared.
        ar100: recall with up to 100 detections per image and class, mean over thresholds and classes, "AR@100".
        class_ap: `ap` of each class.
        class_ap50: `ap50` of each class.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar100: float | None
    class_ap: tuple[float | None, ...]
    class_ap50: tuple[float | None, ...]


def coco_summary(truth: Boxes, found: Sequence[Detections], classes: int) -> CocoSummary:
    """COCO's measures of the detections in n images, by the library hotcoco: the numbers of pycocotools, but fast.

    COCO has crowds but no difficult boxes. These are ignored as COCO ignores objects outside of the range of sizes:
    matched last, once, by the usual IoU (the evaluator gets an area beyond all ranges for them). Sizes are those of
    the boxes; COCO's own files give the areas of masks, so `ap_small`, `ap_medium` and `ap_large` of such data
    differ from published ones.

    Raises:
        ResnetlabError: hotcoco is not installed; truth and detections are not of the same images; or a class, score
            or corner is invalid.
    """
    precision, recall = _coco_tables(truth, found, classes)
    return CocoSummary(
        ap=_known_mean(precision[:, :, :, 0]),
        ap50=_known_mean(precision[0, :, :, 0]),
        ap75=_known_mean(precision[5, :, :, 0]),
        ap_small=_known_mean(precision[:, :, :, 1]),
        ap_medium=_known_mean(precision[:, :, :, 2]),
        ap_large=_known_mean(precision[:, :, :, 3]),
        ar100=_known_mean(recall[:, :, 0]),
        class_ap=tuple(_known_mean(precision[:, :, k, 0]) for k in range(classes)),
        class_ap50=tuple(_known_mean(precision[0, :, k, 0]) for k in range(classes)),
    )


def average_precision(matches: Matches, rule: ApRule) -> float | None:
    """The average precision of one class; None without a box that is to be found.

    The precision at a recall is the highest precision at this or a higher recall. It is averaged over recalls:

    - "11 points": 0, 0.1, ..., 1 (Pascal VOC 2007). They are compared exactly, so 3 of 10 boxes reach 0.3; the
      devkit's 3 * 0.1 is slightly above 0.3.
    - "area": all recalls, the area under the curve (Pascal VOC from 2010).
    - "101 points": 0, 0.01, ..., 1 (COCO; the floating-point numbers of pycocotools).
    """
    value = weighted_average_precision(matches, np.ones((1, len(matches.positives)), dtype=np.int64), rule)[0]
    return None if np.isnan(value) else float(value)


def mean_over_classes(values: Sequence[float | None]) -> float | None:
    """The mean of the classes that have a value, called mAP; None if none has."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def weighted_average_precision(
    matches: Matches, weights: Int64[np.ndarray, "b n"], rule: ApRule
) -> Float64[np.ndarray, "b"]:
    """The average precision of one class where image i of n occurs `weights[:, i]` times, for each of b weightings.

    Copies of an image do not change the outcome of a detection, nor, among distinct scores, their order. NaN where no
    box is to be found.
    """
    # Of the curve only the true detections matter: precision is highest there, before further false ones follow.
    judged = np.flatnonzero(matches.outcome != IGNORED)
    true = matches.outcome[judged] == TRUE
    length = int(np.flatnonzero(true)[-1]) + 1 if true.any() else 0
    image, true = matches.image[judged[:length]], true[:length]
    positives = weights @ matches.positives
    step = max(1, AT_ONCE // max(length, 1))
    values = np.full(len(weights), np.nan)
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        values[part] = _averages(weights[part][:, image], true, positives[part], rule)
    return np.where(positives > 0, values, np.nan)


@dataclass(frozen=True)
class Difference:
    """The average precision of two detectors on the same images, and how sure their difference is.

    Attributes:
        first: average precision of the first detector, the mean over its seeds.
        second: average precision of the second detector.
        standard_error: standard deviation of the difference over the resamples.
        interval: the 2.5 % and 97.5 % percentiles of the difference over the resamples.
    """

    first: float
    second: float
    standard_error: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """By how much the second detector is better."""
        return self.second - self.first

    @property
    def within_noise(self) -> bool:
        """Whether the interval contains 0: another choice of images could reverse the order."""
        return self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Bootstrap:
    """The differences of two detectors: of the mean over classes, and of each class (None without a box)."""

    mean: Difference
    classes: tuple[Difference | None, ...]


def bootstrap(
    first: Sequence[Sequence[Matches]],
    second: Sequence[Sequence[Matches]],
    rule: ApRule,
    resamples: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Compare two detectors by the paired bootstrap over images (Efron and Tibshirani, 1993, chapters 6 and 13).

    As many images as there are, n, are drawn with replacement, `resamples` times, and both detectors are measured on
    each draw. A class counts in the draws that contain a box of it. The interval covers the choice of the test
    images; it does not cover the choice of the seeds, over which average precision is averaged.

    Args:
        first: for each seed of the first detector, the matches of each class.
        second: the same for the second detector; the number of seeds may differ.
        rule: how precision is averaged over recall.
        resamples: how often images are drawn, at least 100.
        seed: of the drawing.

    Raises:
        ResnetlabError: the matches are not of the same images and classes, or there are too few images or resamples.
    """
    if not (first and second):
        raise ResnetlabError("give the matches of at least one seed of both detectors")
    positives = _common_positives([*first, *second])
    if resamples < FEWEST:
        raise ResnetlabError(f"{resamples} resamples are too few for an interval; draw at least {FEWEST}")
    images = positives.shape[1]
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), drawn])  # first the images as they are
    one, two = (_resampled(detector, weights, rule) for detector in (first, second))
    mean, *classes = (_difference(a, b) for a, b in zip(one, two, strict=True))
    if mean is None:
        raise ResnetlabError("no image has a box to be found: average precision does not exist")
    return Bootstrap(mean, tuple(classes))


def _common_positives(detectors: Sequence[Sequence[Matches]]) -> Int64[np.ndarray, "classes n"]:
    """The boxes to be found, of each class in each image, which all detectors and seeds must share."""
    if not all(detectors):
        raise ResnetlabError("a seed without matches; give those of at least one class")
    each = [np.stack([matches.positives for matches in classes]) for classes in detectors]
    if not all(np.array_equal(other, each[0]) for other in each):
        raise ResnetlabError("the matches are not of the same images and classes: the boxes to be found differ")
    if each[0].shape[1] < 2:
        raise ResnetlabError(f"{each[0].shape[1]} images: to judge a difference by resampling takes 2 or more")
    return each[0]


def _resampled(
    seeds: Sequence[Sequence[Matches]], weights: Int64[np.ndarray, "b n"], rule: ApRule
) -> Float64[np.ndarray, "values b"]:
    """Average precision for each weighting, the mean over the seeds: first over all classes, then of each class."""
    classes = np.mean([[weighted_average_precision(one, weights, rule) for one in seed] for seed in seeds], axis=0)
    known = ~np.isnan(classes)
    count = known.sum(0)
    mean = np.full(count.shape, np.nan)
    np.divide(np.where(known, classes, 0).sum(0), count, out=mean, where=count > 0)
    return np.concatenate([mean[None], classes])


def _difference(first: Float64[np.ndarray, "b"], second: Float64[np.ndarray, "b"]) -> Difference | None:
    """Of two rows whose first value is that of the images as they are, and the others those of resamples."""
    if np.isnan(first[0]):
        return None
    change = (second - first)[1:]
    change = change[~np.isnan(change)]
    low, high = np.percentile(change, [2.5, 97.5])
    return Difference(float(first[0]), float(second[0]), float(change.std(ddof=1)), (float(low), float(high)))


def _averages(
    counts: Int64[np.ndarray, "b d"], true: Bool[np.ndarray, "d"], positives: Int64[np.ndarray, "b"], rule: ApRule
) -> Float64[np.ndarray, "b"]:
    """Average precision where detection i, in descending order of scores, occurs `counts[:, i]` times."""
    hits = counts[:, true].cumsum(1)
    precision = hits / np.maximum(counts.cumsum(1)[:, true], 1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(positives, 1)[:, None]
    if rule == "area":
        return np.asarray((np.diff(recall, prepend=0, axis=1) * highest).sum(1))
    reached = np.stack([np.searchsorted(row, POINTS[rule]) for row in recall])
    return np.asarray(np.take_along_axis(np.pad(highest, ((0, 0), (0, 1))), reached, axis=1).mean(1))


def _coco_tables(
    truth: Boxes, found: Sequence[Detections], classes: int
) -> tuple[Float64[np.ndarray, "thresholds recalls classes sizes"], Float64[np.ndarray, "thresholds classes sizes"]]:
    """COCO's precisions and recalls with up to 100 detections per image and class; -1 without boxes."""
    try:
        from hotcoco import COCO, COCOeval
    except ModuleNotFoundError:
        raise ResnetlabError("COCO's measures need hotcoco: pip install 'resnetlab[detection]'") from None
    data = pooled(truth, found, classes)
    box, detection = (np.concatenate([c[:, :2], c[:, 2:] - c[:, :2]], 1) for c in (data.box_corners, data.corners))
    annotated = COCO.from_arrays(
        [{"id": k} for k in range(data.images)],
        [{"id": k, "name": str(k)} for k in range(classes)],
        data.box_image,
        data.box_class,
        box,
        area=np.where(data.difficult, BEYOND_ALL_SIZES, box[:, 2:].prod(1)),
        iscrowd=data.crowd,
    )
    detected = np.column_stack([data.image, detection, data.scores, data.label])
    evaluator = COCOeval(annotated, annotated.load_res(detected), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    tables: Any = evaluator.eval
    return tables["precision"][..., -1], tables["recall"][..., -1]


def _known_mean(values: Float64[np.ndarray, "..."]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if len(known) else None
