"""Average precision equals pycocotools' and the VOC devkit's, and the bootstrap equals resampling word by word."""

import contextlib
import io
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.average_precision import (
    ApRule,
    average_precision,
    bootstrap,
    coco_summary,
    mean_over_classes,
    weighted_average_precision,
)
from resnetlab.evaluation.matching import FALSE, IGNORED, TRUE, Matches, coco_matches, voc_matches

Problem = tuple[Boxes, list[Detections]]
CLASSES = 3
RULES: tuple[ApRule, ...] = ("101 points", "11 points", "area")


def box(left: float, top: float, width: float, height: float) -> list[float]:
    return [float(side) for side in (left, top, left + width, top + height)]


def detections(*rows: tuple[list[float], int, float]) -> Detections:
    corners = torch.tensor([row[0] for row in rows]).reshape(-1, 4)
    return Detections(corners, torch.tensor([row[1] for row in rows]).long(), torch.tensor([row[2] for row in rows]))


def outcomes(matches: Matches) -> list[int]:
    return matches.outcome.tolist()


SPECS = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(1, 5),  # images
    st.sampled_from([3, 8, 16]),  # pixels of the grid: boxes from small to large
    st.sampled_from([0, 2, 6]),  # at most so many boxes in an image
    st.sampled_from([0, 4, 12, 400]),  # at most so many detections in an image
    st.sampled_from([1, 3, 50]),  # levels of the scores
)


def problem(spec: tuple[int, ...], distinct: bool = False) -> Problem:
    """Boxes on a grid, so that IoU and scores are often equal; all scores differ on request."""
    seed, images, unit, most, many, levels = spec
    random, truth, found = np.random.default_rng(seed), [], []
    for _ in range(images):
        count, number = random.integers(0, most + 1), random.integers(0, many + 1)
        corners, near = grid(random, count, unit), grid(random, number, unit)
        flags = random.choice(3, count, p=[0.6, 0.2, 0.2])
        truth.append(annotated(random, corners, CLASSES, (flags == 1).tolist(), (flags == 2).tolist()))
        if count:
            copied = random.random(number) < 0.5
            near[copied] = corners[random.integers(0, count, copied.sum())]
        scores = random.random(number) if distinct else random.integers(0, levels, number) / levels
        labels = torch.from_numpy(random.integers(0, CLASSES, number))
        scores = torch.from_numpy(np.sort(scores)[::-1].astype(np.float32))
        found.append(Detections(torch.from_numpy(near), labels, scores))
    return Boxes.joined(truth), found


def grid(random: np.random.Generator, count: int, unit: int) -> np.ndarray:
    start, size = random.integers(0, 4, (count, 2)), random.integers(3, 9, (count, 2))
    return (np.concatenate([start, start + size], 1) * unit).astype(np.float32)


def annotated(random: np.random.Generator, corners: np.ndarray, classes: int, *flags: list[bool]) -> Boxes:
    return Boxes.of(torch.from_numpy(corners), torch.from_numpy(random.integers(0, classes, len(corners))), *flags)


def by_pycocotools(truth: Boxes, found: list[Detections]) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall tables with 100 detections; difficult boxes are beyond all ranges of sizes."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (rows, each) in enumerate(zip(truth.tolist(), found, strict=True)):
        for left, top, right, bottom, label, difficult, crowd in rows:
            size = [right - left, bottom - top]
            area = 1e12 if difficult else size[0] * size[1]
            about = {"id": len(annotations) + 1, "image_id": image, "category_id": label}
            annotations.append({**about, "bbox": [left, top, *size], "area": area, "iscrowd": crowd})
        for (left, top, right, bottom), label, score in zip(
            each.corners.tolist(), each.classes.tolist(), each.scores.tolist(), strict=True
        ):
            shape = [left, top, right - left, bottom - top]
            results.append({"image_id": image, "category_id": label, "bbox": shape, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        reference, detected = COCO(), COCO()
        reference.dataset = {
            "images": [{"id": image} for image in range(len(truth))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
            "info": {},
        }
        reference.createIndex()
        if results:  # loadRes fails without results
            detected = reference.loadRes(results)
        else:
            detected.dataset = {**reference.dataset, "annotations": []}
            detected.createIndex()
        evaluator = COCOeval(reference, detected, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., -1]


def known_mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else None


@given(spec=SPECS)
def test_coco_is_pycocotools(spec: tuple[int, ...]) -> None:
    truth, found = problem(spec)
    precision, recall = by_pycocotools(truth, found)
    summary = coco_summary(truth, found, CLASSES)
    assert summary.ap == known_mean(precision[:, :, :, 0])
    assert summary.ap50 == known_mean(precision[0, :, :, 0])
    assert summary.ap75 == known_mean(precision[5, :, :, 0])
    assert [summary.ap_small, summary.ap_medium, summary.ap_large] == [
        known_mean(precision[:, :, :, size]) for size in (1, 2, 3)
    ]
    assert summary.ar100 == known_mean(recall[:, :, 0])
    assert summary.class_ap == tuple(known_mean(precision[:, :, k, 0]) for k in range(CLASSES))
    assert summary.class_ap50 == tuple(known_mean(precision[0, :, k, 0]) for k in range(CLASSES))
    for place, threshold in ((0, 0.5), (5, 0.75)):
        ours = [average_precision(each, "101 points") for each in coco_matches(truth, found, CLASSES, threshold)]
        for k, value in enumerate(ours):
            assert value == pytest.approx(known_mean(precision[place, :, k, 0]), abs=1e-12)
        assert mean_over_classes(ours) == pytest.approx(known_mean(precision[place, :, :, 0]), abs=1e-12)


def test_coco_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    truth = Boxes.of([box(0, 0, 9, 9)], [0])
    assert coco_summary(truth, [detections((box(0, 0, 9, 9), 0, 0.5))], 1).ap == pytest.approx(1)
    assert capfd.readouterr() == ("", "")


def test_nothing_detected_is_0_and_nothing_to_detect_is_none() -> None:
    truth = Boxes.joined([Boxes.of([box(0, 0, 50, 50)], [0]), Boxes.of([], [])])
    summary = coco_summary(truth, [detections(), detections()], 2)
    assert (summary.ap, summary.ap_small, summary.ap_medium, summary.ar100) == (0, None, 0, 0)
    assert summary.class_ap == summary.class_ap50 == (0, None)
    for matched in (voc_matches, coco_matches):
        values = [[average_precision(one, rule) for one in matched(truth, [detections()] * 2, 2)] for rule in RULES]
        assert values == [[0, None]] * 3
    empty = coco_summary(Boxes.joined([]), [], 2)
    assert (empty.ap, empty.class_ap) == (None, (None, None))
    assert mean_over_classes([None, 0.5, 1.0]) == 0.75
    assert mean_over_classes([None]) is None


def test_difficult_boxes_and_crowds_by_cocos_rule() -> None:
    # A difficult box takes one detection, the second one is false; a crowd takes all that lie within it, whatever
    # their size. Neither is taken while an ordinary box is free.
    near, group = box(0, 0, 10, 10), box(100, 100, 80, 80)
    truth = Boxes.of([near, group, box(0, 0, 10, 9)], [0, 0, 0], [True, False, False], [False, True, False])
    rows = [(near, 0, 0.9), (near, 0, 0.8), (near, 0, 0.7), (box(110, 110, 5, 5), 0, 0.6), (group, 0, 0.5)]
    (matches,) = coco_matches(truth, [detections(*rows)], 1)
    assert outcomes(matches) == [TRUE, IGNORED, FALSE, IGNORED, IGNORED]
    assert matches.positives.tolist() == [1]
    precision, _ = by_pycocotools(truth, [detections(*rows)])
    assert average_precision(matches, "101 points") == pytest.approx(precision[0, :, 0, 0].mean(), abs=1e-12) == 1


def test_only_100_detections_of_an_image_count_for_coco() -> None:
    truth = Boxes.joined([Boxes.of([box(0, 0, 10, 10)], [0])] * 2)
    rows = [(box(50, 50, 5, 5), 0, 0.9)] * 100 + [(box(0, 0, 10, 10), 0, 0.1)]
    found = [detections(*rows), detections(*rows[1:])]
    (matches,) = coco_matches(truth, found, 1)
    assert len(matches.image) == 200
    assert matches.image[matches.outcome == TRUE].tolist() == [1]
    assert coco_summary(truth, found, 1).ar100 == 0.5
    (matches,) = voc_matches(truth, found, 1)  # the devkit has no limit
    assert matches.image[matches.outcome == TRUE].tolist() == [0, 1]


def by_devkit(truth: Boxes, found: list[Detections], label: int, threshold: float) -> list[tuple[Fraction, Fraction]]:
    """VOCevaldet.m, line by line: recall and precision after each detection that is not ignored."""
    objects = [[list(row) for row in rows if row[4] == label] for rows in truth.tolist()]
    number = sum(not (row[5] or row[6]) for rows in objects for row in rows)
    every = [
        (score, image, corners)
        for image, each in enumerate(found)
        for corners, kind, score in zip(
            each.corners.tolist(), each.classes.tolist(), each.scores.tolist(), strict=True
        )
        if kind == label
    ]
    taken, right, wrong, curve = set(), 0, 0, []
    for _, image, (left, top, to_right, bottom) in sorted(every, key=lambda row: -row[0]):
        highest, best = Fraction(-1), -1
        for j, (x1, y1, x2, y2, *_) in enumerate(objects[image]):
            width, height = min(x2, to_right) - max(x1, left), min(y2, bottom) - max(y1, top)
            if width > 0 and height > 0:
                both = (x2 - x1) * (y2 - y1) + (to_right - left) * (bottom - top) - width * height
                overlap = Fraction(width * height) / Fraction(both)
                if overlap > highest:
                    highest, best = overlap, j
        if highest >= Fraction(threshold):
            if objects[image][best][5] or objects[image][best][6]:
                continue
            if (image, best) in taken:
                wrong += 1
            else:
                right += 1
                taken.add((image, best))
        else:
            wrong += 1
        curve.append((Fraction(right, max(number, 1)), Fraction(right, right + wrong)))
    return curve


def interpolated(curve: list[tuple[Fraction, Fraction]], rule: ApRule) -> float:
    """VOCap.m of 2007 and of 2010, without rounding."""
    if rule == "11 points":
        return float(
            sum(max((p for r, p in curve if r >= Fraction(k, 10)), default=Fraction(0)) for k in range(11)) / 11
        )
    recall = [Fraction(0), *(r for r, _ in curve), Fraction(1)]
    precision = [Fraction(0), *(p for _, p in curve), Fraction(0)]
    for k in range(len(precision) - 2, -1, -1):
        precision[k] = max(precision[k], precision[k + 1])
    return float(sum((recall[k] - recall[k - 1]) * precision[k] for k in range(1, len(recall))))


@given(spec=SPECS, threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_voc_is_the_devkit(spec: tuple[int, ...], threshold: float) -> None:
    truth, found = problem(spec)
    for label, matches in enumerate(voc_matches(truth, found, CLASSES, threshold)):
        curve = by_devkit(truth, found, label, threshold)
        assert (matches.outcome != IGNORED).sum() == len(curve)
        for rule in ("11 points", "area"):
            value = average_precision(matches, rule)
            if matches.positives.any():
                assert value == pytest.approx(interpolated(curve, rule), abs=1e-12)
            else:
                assert value is None


def test_voc_by_hand() -> None:
    # Five boxes, one of them difficult: 4 positives. Detections by score, with recall and precision:
    #   0.9 true, in image 0          1/4  1
    #   0.8 the difficult box         -    -    ignored, and so is the next one
    #   0.7 the difficult box again   -    -
    #   0.6 a second of the first box 1/4  1/2  false
    #   0.5 true, in image 1          2/4  2/3
    #   0.4 nothing there             2/4  2/4  false
    #   0.3 true, in image 1          3/4  3/5
    # Best precision from recall r on: 1 to r = 1/4, 2/3 to 1/2, 3/5 to 3/4, then 0.
    #   11 points: 0, 0.1, 0.2 -> 1; 0.3, 0.4, 0.5 -> 2/3; 0.6, 0.7 -> 3/5; 0.8, 0.9, 1 -> 0
    #   area: 1/4 * 1 + 1/4 * 2/3 + 1/4 * 3/5
    a, b, c, d, e = (box(100 * k, 0, 40, 40) for k in range(5))
    truth = Boxes.joined([Boxes.of([a, b], [0, 0], [False, True]), Boxes.of([c, d, e], [0, 0, 0])])
    first = detections((a, 0, 0.9), (b, 0, 0.8), (b, 0, 0.7), (a, 0, 0.6))
    second = detections((c, 0, 0.5), (box(0, 200, 9, 9), 0, 0.4), (d, 0, 0.3))
    (matches,) = voc_matches(truth, [first, second], 1)
    assert outcomes(matches) == [TRUE, IGNORED, IGNORED, FALSE, TRUE, FALSE, TRUE]
    assert matches.image.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert average_precision(matches, "11 points") == pytest.approx((3 + 3 * 2 / 3 + 2 * 3 / 5) / 11, abs=1e-15)
    assert average_precision(matches, "area") == pytest.approx((1 + 2 / 3 + 3 / 5) / 4, abs=1e-15)


def test_a_recall_of_3_tenths_reaches_the_point_3_tenths() -> None:
    # 3 of 10 boxes are found, nothing else is: precision is 1 at the recalls 0, 0.1, 0.2 and 0.3.
    matches = Matches(np.arange(3), np.ones(3), np.ones(3, np.int8), np.ones(10, np.int64))
    assert average_precision(matches, "11 points") == pytest.approx(4 / 11, abs=1e-15)
    assert average_precision(matches, "area") == pytest.approx(3 / 10, abs=1e-15)


def test_a_recall_of_35_hundredths_does_not_reach_cocos_point() -> None:
    # pycocotools' point is 35 * 0.01, slightly above 7 / 20: precision is 1 at the 35 points below it.
    truth = Boxes.joined([Boxes.of([box(0, 0, 9, 9)], [0])] * 20)
    found = [detections((box(0, 0, 9, 9), 0, 0.5))] * 7 + [detections()] * 13
    precision, _ = by_pycocotools(truth, found)
    (matches,) = coco_matches(truth, found, 1)
    assert average_precision(matches, "101 points") == pytest.approx(35 / 101, abs=1e-12)
    assert precision[0, :, 0, 0].mean() == pytest.approx(35 / 101, abs=1e-12)


def test_rules_differ_where_the_best_box_is_taken() -> None:
    # Both detections overlap most with the left box. VOC: the second is false. COCO: it takes the other box.
    truth = Boxes.of([box(0, 0, 10, 10), box(2, 0, 10, 10)], [0, 0])
    found = [detections((box(0, 0, 10, 10), 0, 0.9), (box(0.5, 0, 10, 10), 0, 0.8))]
    assert outcomes(voc_matches(truth, found, 1)[0]) == [TRUE, FALSE]
    assert outcomes(coco_matches(truth, found, 1)[0]) == [TRUE, TRUE]


def test_of_equal_ious_voc_takes_the_first_box_and_coco_the_last() -> None:
    # The first detection lies half-way between the boxes; the second is one of them, too far from the other.
    left, right, between = box(0, 0, 10, 10), box(4, 0, 10, 10), box(2, 0, 10, 10)
    truth = Boxes.of([left, right], [0, 0])
    for second, by_voc, by_coco in ((left, FALSE, TRUE), (right, TRUE, FALSE)):
        found = [detections((between, 0, 0.9), (second, 0, 0.8))]
        assert outcomes(voc_matches(truth, found, 1)[0]) == [TRUE, by_voc]
        assert outcomes(coco_matches(truth, found, 1)[0]) == [TRUE, by_coco]
        assert by_pycocotools(truth, found)[1][0, 0, 0] == (1 + by_coco) / 2


def test_an_iou_of_exactly_the_threshold_is_enough() -> None:
    truth, found = Boxes.of([box(0, 0, 10, 10)], [0]), [detections((box(0, 0, 10, 5), 0, 0.9))]
    for matched in (voc_matches, coco_matches):
        assert outcomes(matched(truth, found, 1)[0]) == [TRUE]
        assert outcomes(matched(truth, found, 1, 0.51)[0]) == [FALSE]


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        (Boxes.of([], []), [], "0 images have detections, but 1 have annotations"),
        (Boxes.of([box(0, 0, 1, 1)], [3]), [detections()], "an annotated box has class 3"),
        (Boxes.of([], []), [detections((box(0, 0, 1, 1), -1, 0.5))], "a detection has class -1"),
        (Boxes.of([], []), [detections((box(0, 0, 1, 1), 0, float("nan")))], "image 0: the score of a detection"),
        (Boxes.of([], []), [detections((box(0, 0, float("inf"), 1), 0, 0.5))], "image 0: the corners of a detection"),
    ],
)
def test_what_cannot_be_measured_is_refused(truth: Boxes, found: list[Detections], message: str) -> None:
    for measure in (coco_summary, voc_matches, coco_matches):
        with pytest.raises(ResnetlabError, match=message):
            measure(truth, found, CLASSES)


def test_a_threshold_out_of_range_is_refused() -> None:
    for matched in (voc_matches, coco_matches):
        for threshold in (0.0, 1.5):
            with pytest.raises(ResnetlabError, match="IoU threshold"):
                matched(Boxes.of([], []), [detections()], 1, threshold)


def test_without_hotcoco_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(ResnetlabError, match=r"pip install 'resnetlab\[detection\]'"):
        coco_summary(Boxes.of([], []), [detections()], 1)


@given(spec=SPECS, seed=st.integers(0, 9))
@settings(max_examples=30)
def test_weights_are_copies_of_images(spec: tuple[int, ...], seed: int) -> None:
    truth, found = problem(spec, distinct=True)
    weights = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=3)
    every = coco_matches(truth, found, CLASSES)
    for row in weights:
        copies = np.repeat(np.arange(len(truth)), row)
        again = coco_matches(truth[torch.from_numpy(copies)], [found[k] for k in copies], CLASSES)
        for rule in RULES:
            for matches, copied in zip(every, again, strict=True):
                (value,) = weighted_average_precision(matches, row[None], rule)
                expected = average_precision(copied, rule)
                assert value == pytest.approx(np.nan if expected is None else expected, abs=1e-12, nan_ok=True)


def all_right(which: np.ndarray) -> list[list[Matches]]:
    """One seed, one class, one box per image; some are found and nothing else, so the area is their share."""
    image = np.flatnonzero(which)
    outcome = np.full(len(image), TRUE, np.int8)
    return [[Matches(image, np.ones(len(image)), outcome, np.ones(len(which), np.int64))]]


def test_bootstrap_of_a_mean_is_that_of_statistics() -> None:
    # Average precision is here a mean over images, whose standard error is known: s / sqrt(n).
    random = np.random.default_rng(0)
    one, two = random.random(80) < 0.5, random.random(80) < 0.8
    found = bootstrap(all_right(one), all_right(two), "area", resamples=4000).mean
    change = two.astype(float) - one
    assert found.first == pytest.approx(one.mean())
    assert found.difference == pytest.approx(change.mean())
    error = change.std() / np.sqrt(80)
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.interval == pytest.approx((change.mean() - 1.96 * error, change.mean() + 1.96 * error), abs=1 / 80)
    assert not found.within_noise
    same = bootstrap(all_right(one), all_right(one), "area").mean
    assert (same.difference, same.standard_error, same.within_noise) == (0, 0, True)


def several(seed: int, noise: float, truth: Boxes) -> list[Detections]:
    """Detections near the boxes, as of a detector; distinct scores."""
    random, found = np.random.default_rng(seed), []
    for k in range(len(truth)):
        corners = truth[k].corners.repeat(3, 1).numpy()
        scores = np.sort(random.random(len(corners)))[::-1].copy()
        moved = torch.from_numpy(corners + random.normal(0, noise, corners.shape)).float()
        found.append(Detections(moved, truth[k].classes.repeat(3), torch.from_numpy(scores).float()))
    return found


def test_bootstrap_is_evaluation_of_drawn_images() -> None:
    random = np.random.default_rng(0)
    truth = Boxes.joined(annotated(random, grid(random, count, 12), 2) for count in random.integers(1, 4, 12))
    found = [[several(seed, noise, truth) for seed in seeds] for seeds, noise in (((1, 2), 3.0), ((3, 4, 5), 2.0))]
    first, second = ([coco_matches(truth, each, 3) for each in detector] for detector in found)
    result = bootstrap(first, second, "101 points", resamples=2000)
    assert result.classes[2] is None  # no image has a box of it

    def measured(drawn: np.ndarray) -> np.ndarray:
        again = truth[torch.from_numpy(drawn)]
        values = [
            np.mean(
                [
                    [
                        average_precision(one, "101 points") or 0
                        for one in coco_matches(again, [each[k] for k in drawn], 3)
                    ][:2]
                    for each in detector
                ],
                axis=0,
            )
            for detector in found
        ]
        present = [bool((again.classes == k).any()) for k in range(2)]
        return np.array([value[present].mean() for value in values])

    values = measured(np.arange(12))
    assert (result.mean.first, result.mean.second) == pytest.approx(tuple(values), abs=1e-12)
    drawn = np.array([np.diff(measured(random.integers(0, 12, 12)))[0] for _ in range(250)])
    assert result.mean.difference == pytest.approx(values[1] - values[0], abs=1e-12)
    assert result.mean.standard_error == pytest.approx(drawn.std(), rel=0.15)
    assert result.mean.interval == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=drawn.std() / 2)
    assert bootstrap(first, second, "101 points", resamples=2000) == result


def test_bootstrap_of_a_class_in_one_image_uses_the_draws_that_contain_it() -> None:
    positives = np.array([1, 0, 0], np.int64)
    right = Matches(np.zeros(1, np.int64), np.ones(1), np.array([TRUE], np.int8), positives)
    wrong = Matches(np.zeros(1, np.int64), np.ones(1), np.array([FALSE], np.int8), positives)
    found = bootstrap([[wrong]], [[right]], "11 points")
    assert found.classes == (found.mean,)
    assert (found.mean.difference, found.mean.standard_error, found.mean.interval) == (1, 0, (1, 1))


@pytest.mark.parametrize(
    ("first", "second", "resamples", "message"),
    [
        (all_right(np.ones(3)), all_right(np.ones(4)), 1000, "not of the same images and classes"),
        (all_right(np.ones(3)), [], 1000, "at least one seed"),
        (all_right(np.ones(3)), [[]], 1000, "at least one class"),
        (all_right(np.ones(1)), all_right(np.ones(1)), 1000, "1 images"),
        (all_right(np.ones(3)), all_right(np.ones(3)), 10, "10 resamples are too few"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    first: list[list[Matches]], second: list[list[Matches]], resamples: int, message: str
) -> None:
    with pytest.raises(ResnetlabError, match=message):
        bootstrap(first, second, "area", resamples)


def test_without_boxes_there_is_nothing_to_compare() -> None:
    nothing = coco_matches(Boxes.joined([Boxes.of([], [])] * 3), [detections()] * 3, 2)
    with pytest.raises(ResnetlabError, match="no image has a box"):
        bootstrap([nothing], [nothing], "area")
