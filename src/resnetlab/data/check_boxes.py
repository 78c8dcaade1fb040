"""Check the images and boxes of a data set with boxes before training."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from resnetlab.data.check import Report, Seen, alike, duplicates, in_report_order, shorter_sides
from resnetlab.data.dataset import File
from resnetlab.data.findings import THIN, Finding
from resnetlab.data.sources.layouts import Found
from resnetlab.data.sources.raw_boxes import Annotations, RawBoxes

SAME = 0.9  # IoU of two boxes that are likely of one object
TWICE = {"same image twice in a class": "same image twice"}


@dataclass(frozen=True)
class BoxReport(Report):
    """The whole check; `counts` are the boxes that are used.

    `containing` are the images that have boxes of a class, `images` all images of a split.
    """

    containing: dict[str | None, dict[str, int]]
    images: dict[str | None, int]


def images_of(found: Annotations) -> Found:
    """Every image once, in its first split, to be examined."""
    splits: dict[str | None, dict[str, list[File]]] = {}
    met: set[str] = set()
    for split, raw in found.splits.items():
        splits[split] = {"": [file for file in raw.files if file.path not in met]}
        met.update(file.path for file in raw.files)
    return Found(found.root, splits)


def report_boxes(found: Annotations, seen: Iterable[Seen]) -> BoxReport:
    """Summarise the annotations and the examined images."""
    seen = list(seen)
    sizes = {each.file.path: each.size for each in seen if each.size}
    findings = [finding for each in seen for finding in each.findings]
    findings += [replace(finding, kind=TWICE.get(finding.kind, finding.kind)) for finding in duplicates(seen)]
    findings += [*found.findings, *alike(found.classes), *_in_two_splits(found)]
    counts, containing = dict[str | None, dict[str, int]](), dict[str | None, dict[str, int]]()
    for split, raw in found.splits.items():
        limits = _limits(raw, sizes)
        corners = raw.clipped(limits)
        kept = (corners[:, 2:] > corners[:, :2]).all(1) & ~raw.flat
        findings += [*_images(raw, sizes), *_boxes(raw, corners, found.classes), *_pairs(raw, kept, found.classes)]
        pairs = np.unique(np.stack([raw.classes[kept], raw.image[kept]]), axis=1)
        counts[split] = _by_name(found.classes, raw.classes[kept])
        containing[split] = _by_name(found.classes, pairs[0])
    findings += _classes(found, counts)
    images = {split: len(raw.files) for split, raw in found.splits.items()}
    return BoxReport(counts, in_report_order(dict.fromkeys(findings)), shorter_sides(seen), containing, images)


def _by_name(classes: tuple[str, ...], numbers: Int64[np.ndarray, "k"]) -> dict[str, int]:
    """How often each class is there; two classes of one name are counted together."""
    found = dict.fromkeys(classes, 0)
    for name, count in zip(classes, np.bincount(numbers, minlength=len(classes)).tolist(), strict=True):
        found[name] += count
    return found


def _limits(raw: RawBoxes, sizes: dict[str, tuple[int, int]]) -> Float64[np.ndarray, "n 2"]:
    """Stated widths and heights; if there are none, those of the image."""
    unknown = np.inf, np.inf
    real = [sizes.get(file.path, unknown) for file in raw.files]
    return np.where((raw.sizes > 0).all(1, keepdims=True), raw.sizes, np.array(real, np.float64).reshape(-1, 2))


def _in_two_splits(found: Annotations) -> Iterator[Finding]:
    splits = defaultdict[str, list[str]](list)
    for split, raw in found.splits.items():
        for file in raw.files:
            splits[file.name].append(str(split))
    for name, where in splits.items():
        if len(where) > 1:
            yield Finding("same image in two splits", name, f"it is in {' and '.join(where)}")


def _images(raw: RawBoxes, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    boxes = np.bincount(raw.image, minlength=len(raw.files))
    for file, place, stated, count in zip(raw.files, raw.places, raw.sizes.tolist(), boxes.tolist(), strict=True):
        if not count:
            yield Finding("image without boxes", file.name)
        if min(stated) <= 0:
            yield Finding("image size not stated", place)
        elif (real := sizes.get(file.path, stated)) and tuple(real) != tuple(stated):
            turned = " upright" * (tuple(real) == tuple(stated[::-1]))
            detail = f"it says {stated[0]}x{stated[1]}, the image has {real[0]}x{real[1]} pixels{turned}"
            yield Finding("annotation of another size", place, detail)


def _boxes(raw: RawBoxes, corners: Float64[np.ndarray, "k 4"], classes: tuple[str, ...]) -> Iterator[Finding]:
    """Boxes that are dropped, clipped or very small; `corners` are clipped."""
    flat, sizes = raw.flat, corners[:, 2:] - corners[:, :2]
    outside = (sizes <= 0).any(1) & ~flat
    used = ~(flat | outside)
    for kind, wrong in (
        ("box without area", flat),
        ("box outside of the image", outside),
        ("box over the edge", used & raw.over_the_edge(corners)),
        ("tiny box", used & (sizes < THIN).any(1)),
    ):
        for k in np.flatnonzero(wrong).tolist():
            yield Finding(kind, raw.places[raw.image[k]], _shown(raw, k, classes))


def _pairs(raw: RawBoxes, kept: np.ndarray, classes: tuple[str, ...]) -> Iterator[Finding]:
    """Two boxes of one class in nearly the same place."""
    chosen = np.flatnonzero(kept & ~raw.crowd)
    group = raw.image[chosen] * len(classes) + raw.classes[chosen]
    order = np.argsort(group, kind="stable")
    chosen, group, corners = chosen[order], group[order], raw.corners[chosen[order]]
    for step in range(1, len(group)):  # boxes of one image and class are beside each other
        first = np.flatnonzero(group[step:] == group[:-step])
        if not len(first):
            return
        overlap = _iou(corners[first], corners[first + step])
        for k in np.flatnonzero(overlap > SAME).tolist():
            one, other = int(chosen[first[k]]), int(chosen[first[k] + step])
            detail = f"{_shown(raw, other, classes)}, like {raw.number(one).split()[-1]}, IoU {overlap[k]:.2f}"
            yield Finding("object with two boxes", raw.places[raw.image[one]], detail)


def _iou(a: Float64[np.ndarray, "k 4"], b: Float64[np.ndarray, "k 4"]) -> Float64[np.ndarray, "k"]:
    inside = (np.minimum(a, b)[:, 2:] - np.maximum(a, b)[:, :2]).clip(0).prod(1)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (a, b)]
    return np.asarray(inside / (areas[0] + areas[1] - inside))


def _shown(raw: RawBoxes, box: int, classes: tuple[str, ...]) -> str:
    return f"{raw.number(box)} ({classes[raw.classes[box]]}): {raw.show(box)}"


def _classes(found: Annotations, counts: dict[str | None, dict[str, int]]) -> Iterator[Finding]:
    for label in dict.fromkeys(found.classes):
        used = [split for split, by_class in counts.items() if by_class[label]]
        if not used:
            yield Finding("class without boxes", label)
        elif found.is_split and used == ["train"]:
            yield Finding("class only in training", label)
