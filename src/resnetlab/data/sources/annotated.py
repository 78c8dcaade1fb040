"""Image files with boxes, annotated as in Pascal VOC or COCO."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import Dataset, Files
from resnetlab.data.findings import KINDS, Finding
from resnetlab.data.held_out import Unit
from resnetlab.data.sources.coco import coco_files, read_coco
from resnetlab.data.sources.raw_boxes import Annotations, RawBoxes
from resnetlab.data.sources.splitting import TEST_SHARE
from resnetlab.data.sources.voc import read_voc, voc_folders
from resnetlab.errors import ResnetlabError
from resnetlab.files import resolved

OF_A_YEAR = re.compile(r"VOC20\d\d")
EXPECTED = (
    "VOC's layout, Annotations/*.xml and JPEGImages/; or COCO's, annotations/instances_*.json with train2017/ and "
    "val2017/, train/_annotations.coco.json with the images beside it, or a .json file with the images beside it or "
    "in images/"
)


def is_annotated(source: Path) -> bool:
    """Whether a path is a data set with boxes, by its layout."""
    return bool(voc_folders(source) or coco_files(source))


def list_annotated(source: Path) -> Dataset:
    """The image files of a VOC folder, or of COCO's JSON files, with their boxes, by split.

    VOC: the lists in ImageSets/Main give the splits; `trainval` is for training if there is no `train`. Classes are
    numbered by sorted name. Boxes with corners (xmin, ymin, xmax, ymax), counted from 1 and inclusive, become
    (xmin - 1, ymin - 1, xmax, ymax). COCO: each file is a split, by its name or its folder's. Classes are numbered in
    the order of their ids. Without a test split, the validation split is the test set; without any, the tenth of the
    images with the lowest path hashes is. Boxes are clipped to the image; those without area are dropped.

    A folder with VOC2007 and VOC2012 is the paper's "07+12": trained on `trainval` of all years, tested on the `test`
    lists that are there (Appendix A).

    Raises:
        ResnetlabError: whatever `check-data` says stops training; it names the file and what is wrong.
    """
    years = voc_folders(source)
    if len(years) > 1 and all(OF_A_YEAR.fullmatch(folder.name) for folder in years):
        return _together(source, years)
    found = read_annotations(source)
    _refuse_wrong(found, source)
    changed: Counter[str] = Counter()
    parts = {split: _files(raw, changed) for split, raw in found.splits.items()}
    if found.is_split:
        note = f"split by {found.split_by}: {', '.join(str(split) for split in parts)}"
        test, validation = parts.get("test") or parts["validation"], parts.get("validation")
        train, validation = parts["train"], validation if "test" in parts else None
    else:
        note = f"no split found: {TEST_SHARE:.0%} of the images held out for testing, chosen by a hash of the path"
        (train, test), validation = _held_out(_joined(list(parts.values())), source), None
    dataset = Dataset(resolved(source).stem, found.classes, train, test, validation, note + _told(changed))
    return replace(dataset, category_ids=found.category_ids, image_ids=found.image_ids)


def _together(source: Path, years: Sequence[Path]) -> Dataset:
    """Pascal VOC of several years: `train` and `val` of all for training, and all `test` lists."""
    changed: Counter[str] = Counter()
    trained, tested, classes = list[Files](), list[Files](), tuple[str, ...]()
    for folder in years:
        found = read_annotations(folder)
        _refuse_wrong(found, folder)
        if classes and classes != found.classes:
            raise ResnetlabError(f"{folder} has other classes than {years[0]}; give the path of one")
        classes = found.classes
        for split, raw in found.splits.items():
            part = _files(raw, changed)
            named = tuple(replace(file, name=f"{folder.name}/{file.name}") for file in part.files)
            (tested if split == "test" else trained).append(replace(part, files=named))
    if not (trained and tested):
        raise ResnetlabError(
            f"{source}: no year has both ImageSets/Main/trainval.txt and test.txt; give the path of one"
        )
    names = ", ".join(folder.name for folder in years)
    note = f"trained on train and val of {names}, tested on test" + _told(changed)
    return Dataset(resolved(source).stem, classes, _joined(trained), _joined(tested), None, note)


def _refuse_wrong(found: Annotations, source: Path) -> None:
    if wrong := [finding for finding in found.findings if finding.weight == "stops"]:
        first, more = wrong[0], len(wrong) - 1
        others = f" (`resnetlab check-data` lists {more:,} more such problem{'s' * (more > 1)})" if more else ""
        detail = f": {first.detail}" if first.detail else ""
        raise ResnetlabError(f"{source}, {first.kind}: {first.file}{detail}; {KINDS[first.kind][1]}{others}")


def _told(changed: Counter[str]) -> str:
    """What was changed, for the note of the data set."""
    told = (f"; {count:,} box{'es' * (count > 1)} {what}, see check-data" for what, count in changed.items() if count)
    return "".join(told)


def read_annotations(source: Path) -> Annotations:
    """All images and boxes as they are annotated, and what is wrong with them, without decoding an image.

    Raises:
        ResnetlabError: the layout is unknown, or it is not clear which file is for which split.
    """
    if voc_folders(source):
        found = read_voc(source)
    elif coco_files(source):
        found = read_coco(source)
    else:
        raise ResnetlabError(f"{source} has no boxes; expected {EXPECTED}")
    found = replace(found, splits={split: raw for split, raw in found.splits.items() if raw.files})
    wrong = list(found.findings)
    if not any(finding.weight == "stops" for finding in wrong):
        wrong += _untrained(found)
    return replace(found, findings=tuple(wrong))


def _untrained(found: Annotations) -> Iterator[Finding]:
    """Classes that are tested, but not trained."""
    counts = {
        split: np.bincount(raw.classes[~raw.ignored & ~raw.flat], minlength=len(found.classes))
        for split, raw in found.splits.items()
    }
    train = counts["train"] if found.is_split else sum(counts.values(), np.zeros(len(found.classes), np.int64))
    if not train.sum():
        yield Finding("no boxes", "train" if found.is_split else found.root.name)
        return
    for split, count in counts.items():
        for k in np.flatnonzero((count > 0) & (train == 0)).tolist():
            yield Finding("class never in training", found.classes[k], f"{count[k]:,} boxes in {split}")


def _files(raw: RawBoxes, changed: Counter[str]) -> Files:
    """A split with its boxes, clipped; boxes without area are dropped. What was changed is counted."""
    corners, flat = raw.clipped(raw.limits()), raw.flat
    outside = ((corners[:, 2:] <= corners[:, :2]).any(1)) & ~flat
    kept = ~(flat | outside)
    cut = int((kept & raw.over_the_edge(corners)).sum())
    changed.update({"without area dropped": int(flat.sum()), "outside of the image dropped": int(outside.sum())})
    changed.update({"over the edge clipped": cut})
    boxes = Boxes(
        torch.from_numpy(corners[kept]).float(),
        torch.from_numpy(raw.classes[kept]),
        torch.from_numpy(raw.difficult[kept]),
        torch.from_numpy(raw.crowd[kept]),
        torch.from_numpy(np.bincount(raw.image[kept], minlength=len(raw.files))),
    )
    return Files(raw.files, torch.zeros(len(raw.files), 0), boxes)


def _joined(parts: list[Files]) -> Files:
    files = tuple(file for part in parts for file in part.files)
    return Files(files, torch.zeros(len(files), 0), Boxes.joined(part.boxes for part in parts if part.boxes))


def _held_out(images: Files, source: Path) -> tuple[Files, Files]:
    """Training and test images. Equal files stay in one split, and training keeps an image of every class."""
    assert images.boxes is not None  # noqa: S101 -- for the type checker
    of, groups = images.units, dict[Unit, list[int]]()
    for k in sorted(range(len(images)), key=lambda k: hashlib.sha256(_place(images.files[k].name)).digest()):
        groups.setdefault(of[k], []).append(k)
    classes = [{row[4] for row in rows if not (row[5] or row[6])} for rows in images.boxes.tolist()]
    left = Counter(label for each in classes for label in each)
    wanted, tested = max(1, round(TEST_SHARE * len(images))), list[int]()
    for group in groups.values():
        taken = Counter(label for k in group for label in classes[k])
        if len(tested) < wanted and len(tested) + len(group) < len(images) and all(left[x] > taken[x] for x in taken):
            tested += group
            left -= taken
    if not tested:
        raise ResnetlabError(
            f"{source}: no image can be held out for testing, for training needs each class and different images; "
            "add images, or a split of your own"
        )
    test = torch.tensor(sorted(tested))
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[test] = False
    return images[kept.nonzero()[:, 0]], images[test]


def _place(name: str) -> bytes:
    """Folder and file name; they stay the same if the data set moves."""
    return "/".join(Path(name).parts[-2:]).encode(errors="surrogateescape")
