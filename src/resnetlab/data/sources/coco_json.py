"""The content of COCO's JSON files, entry by entry; what is wrong with it becomes findings."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from resnetlab.data.dataset import File
from resnetlab.data.findings import Finding
from resnetlab.data.sources.raw_boxes import RawBoxes
from resnetlab.files import read_regular

NEEDED: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}
LARGEST = 1 << 36  # bytes
FARTHEST = 1e30  # of a coordinate
SHOWN = 60  # characters of an entry
ABSENT, UNKNOWN = -1, -2
"""In place of the position of an image: its file is missing; there is no such image."""
Entry = dict[str, Any]
Content = dict[str, list[Entry]]


def read_content(path: Path, place: str, findings: list[Finding]) -> Content:
    """The three lists of a file, with the entries that have what is needed."""
    content: Content = {key: [] for key in NEEDED}
    try:
        read = json.loads(read_regular(path, most=LARGEST), object_hook=_without_outline)
    except (OSError, ValueError, RecursionError) as error:
        findings.append(Finding("unreadable annotation", place, f"{error}"))
        return content
    lists = read if isinstance(read, dict) else {}
    if lacking := [key for key in NEEDED if not isinstance(lists.get(key), list)]:
        findings.append(Finding("unreadable annotation", place, f"it has no list of {' and '.join(lacking)}"))
        return content
    for key, needed in NEEDED.items():
        items = tuple(needed.items())
        for number, entry in enumerate(lists[key]):
            if isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in items):
                content[key].append(entry)
            else:
                expected = ", ".join(f"{name} ({kind.__name__})" for name, kind in items)
                said = f"{key}[{number}] is {json.dumps(entry)[:SHOWN]}; expected {expected}"
                findings.append(Finding("unreadable annotation", place, said))
    return content


def read_categories(contents: Mapping[str, Content], findings: list[Finding]) -> dict[int, str]:
    """Names by id, over several files."""
    names: dict[int, str] = {}
    for place, content in contents.items():
        for entry in content["categories"]:
            known = names.setdefault(entry["id"], entry["name"])
            if known != entry["name"]:
                said = f"category {entry['id']} is {known} and {entry['name']}"
                findings.append(Finding("ambiguous id", place, said))
    place = ", ".join(contents)
    ids = defaultdict[str, list[int]](list)
    for number, name in names.items():
        ids[name].append(number)
    for name, numbers in ids.items():
        if len(numbers) > 1:
            findings.append(Finding("category twice", place, f"{name} has the ids {', '.join(map(str, numbers))}"))
    if names and sorted(names) != list(range(1, 1 + len(names))):
        holes = max(names) - min(names) + 1 - len(names)
        said = f"{min(names)} to {max(names)}" + f", {holes} of them missing" * bool(holes)
        findings.append(Finding("unusual category ids", place, said))
    return dict(sorted(names.items()))


def read_boxes(
    content: Content,
    place: str,
    files: Sequence[File],
    positions: Mapping[int, int],
    classes: Mapping[int, int],
    findings: list[Finding],
) -> RawBoxes:
    """The boxes of the images that exist. `positions` has the position in `files` of an image id, or ABSENT."""
    entries = content["annotations"]
    image = np.array([positions.get(entry["image_id"], UNKNOWN) for entry in entries], np.int64)
    labels = np.array([classes.get(entry["category_id"], -1) for entry in entries], np.int64)
    written = _numbers([entry["bbox"] for entry in entries])
    numbers = np.array([_whole(entry.get("id"), k + 1) for k, entry in enumerate(entries)], np.int64)
    finite = np.isfinite(written).all(1)
    for kind, wrong, key in (
        ("annotation without image", image == UNKNOWN, "image_id"),
        ("unknown category", labels < 0, "category_id"),
        ("coordinates that are not numbers", ~finite, "bbox"),
    ):
        for k in np.flatnonzero(wrong).tolist():
            where = files[image[k]].name if image[k] >= 0 else place
            said = f"annotation {numbers[k]}: {key} {json.dumps(entries[k][key])[:SHOWN]}"
            findings.append(Finding(kind, where, said))
    kept = np.flatnonzero((image >= 0) & (labels >= 0) & finite)
    kept = kept[np.argsort(image[kept], kind="stable")]
    sizes = {positions[entry["id"]]: [_whole(entry.get(side)) for side in SIDES] for entry in content["images"]}
    return RawBoxes(
        "COCO",
        tuple(files),
        tuple(file.name for file in files),
        sizes=np.array([sizes[k] for k in range(len(files))], np.int64).reshape(-1, 2),
        image=image[kept],
        numbers=numbers[kept],
        written=written[kept],
        classes=labels[kept],
        difficult=np.zeros(len(kept), bool),
        crowd=np.array([entries[k].get("iscrowd") in (1, "1") for k in kept.tolist()], bool),
    )


SIDES = "width", "height"


def _without_outline(entry: Entry) -> Entry:
    entry.pop("segmentation", None)  # most of the file
    return entry


def _whole(value: Any, otherwise: int = 0) -> int:
    return int(value) if isinstance(value, int | float) and abs(value) < 1 << 62 else otherwise


def _numbers(boxes: list[list[Any]]) -> Float64[np.ndarray, "k 4"]:
    """Four numbers of each box, or NaN."""
    try:
        found = np.array(boxes, np.float64).reshape(len(boxes), -1)
    except (TypeError, ValueError, OverflowError):  # one of them is wrong
        found = np.zeros((len(boxes), 0))
    if found.shape[1] == 4 or not boxes:
        return found.reshape(-1, 4)
    found = np.full((len(boxes), 4), np.nan)
    for row, box in zip(found, boxes, strict=True):
        if len(box) == 4 and all(isinstance(value, int | float) and abs(value) < FARTHEST for value in box):
            row[:] = box
    return found
