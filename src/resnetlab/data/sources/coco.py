"""Read annotations in COCO's format: one JSON file per split."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from resnetlab.data.dataset import File
from resnetlab.data.findings import Finding
from resnetlab.data.preprocessing import is_image
from resnetlab.data.sources.coco_json import ABSENT, Content, read_boxes, read_categories, read_content
from resnetlab.data.sources.layouts import SPLITS
from resnetlab.data.sources.raw_boxes import Annotations, RawBoxes
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular

FOLDER = "annotations"
PREFIX = "instances_"
ROBOFLOW = "_annotations.coco.json"
LOOKED_AT = 1 << 18  # bytes at the start and at the end of a file
FIRST_KEY = re.compile(rb'\s*\{\s*"(info|licenses|images|annotations|categories|type)"')
TRIED = 20  # images, to find their folder


def coco_files(source: Path) -> list[tuple[str | None, Path]]:
    """The JSON files of a source and their splits: COCO's layout, Roboflow's, or files beside or above the images."""
    if not source.is_dir():
        return [(None, source)] if source.is_file() and source.suffix.lower() == ".json" else []
    if official := sorted((source / FOLDER).glob(f"{PREFIX}*.json")):
        return [(_split_of(path), path) for path in official]
    with os.scandir(source) as entries:
        names = sorted(entry.name for entry in entries)
    by_split = [(SPLITS[name.lower()], source / name / ROBOFLOW) for name in names if name.lower() in SPLITS]
    if exported := [(split, path) for split, path in by_split if path.is_file()]:
        return [*exported]
    paths = [source / name for name in names if name.lower().endswith(".json")]
    return [(_split_of(path), path) for path in (*paths, *sorted((source / FOLDER).glob("*.json"))) if _is_coco(path)]


def read_coco(source: Path) -> Annotations:
    """Images and boxes by JSON file; see `list_annotated`.

    Raises:
        ResnetlabError: several files are of one split, or of none.
    """
    root = source if source.is_dir() else source.parent
    if root.name == FOLDER and not source.is_dir():
        root = root.parent
    paths = _by_split(source)
    places = {split: str(path.relative_to(root)) for split, path in paths.items()}
    findings: list[Finding] = []
    contents = {split: read_content(path, places[split], findings) for split, path in paths.items()}
    names = read_categories({places[split]: content for split, content in contents.items()}, findings)
    classes = {number: k for k, number in enumerate(names)}
    disk = Disk(root)
    splits, image_ids = dict[str | None, RawBoxes](), dict[str, int]()
    for split, content in contents.items():
        files, positions = _images(content, _folder(root, paths[split], content), places[split], disk, findings)
        splits[split] = read_boxes(content, places[split], files, positions, classes, findings)
        image_ids |= {files[k].name: number for number, k in positions.items() if k != ABSENT}
    findings += disk.unused()
    return Annotations(root, tuple(names.values()), splits, tuple(findings), "file", tuple(names), image_ids)


class Disk:
    """The files below a folder; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = defaultdict(set)

    def has(self, path: str) -> bool:
        """Whether a file exists; it then counts as used."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if Path(folder).is_dir() else set()  # noqa: PTH208 -- names
        self._used[folder].add(name)
        return name in self._names[folder]

    def unused(self) -> Iterator[Finding]:
        """Images in the folders of used files that are not used."""
        for folder, names in self._names.items():
            for name in sorted(names - self._used[folder]):
                if is_image(Path(name)):
                    yield Finding("image in no split", os.path.relpath(f"{folder}/{name}", self.root))


def _split_of(path: Path) -> str | None:
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SPLITS), None)


def _by_split(source: Path) -> dict[str | None, Path]:
    paths: dict[str | None, Path] = {}
    for split, path in coco_files(source):
        if split in paths or (paths and None in (split, *paths)):
            other = paths.get(split) or next(iter(paths.values()))
            raise ResnetlabError(
                f"{source}: the names of {other.name} and {path.name} do not say which splits they are; give each "
                "file one of train, val and test in its name, move those away that are not needed, or give the path "
                "of one of them"
            )
        paths[split] = path
    return paths


def _is_coco(path: Path) -> bool:
    """Whether a file looks like COCO's, without reading all of it."""
    try:
        start = read_regular(path, 0, LOOKED_AT).removeprefix(b"\xef\xbb\xbf")
        end = read_regular(path, max(0, path.stat().st_size - LOOKED_AT), LOOKED_AT)
    except OSError:
        return False
    return bool(FIRST_KEY.match(start)) and b'"bbox"' in start + end


def _folder(root: Path, path: Path, content: Content) -> Path:
    """The folder that a file's image names are relative to: the first where one of some images exists."""
    stem = path.stem.removeprefix(PREFIX)
    places = [
        base / inside
        for base in dict.fromkeys((path.parent, root, path.parent / "images", root / "images"))
        for inside in (stem, stem.rstrip("0123456789-_"), ".")
    ]
    names = [entry["file_name"] for entry in islice(content["images"], TRIED)]
    is_file = os.path.isfile  # where a name is too long, Path.is_file raises
    return next((place for place in places if any(is_file(place / name) for name in names)), root / stem)


def _images(
    content: Content, folder: Path, place: str, disk: Disk, findings: list[Finding]
) -> tuple[list[File], dict[int, int]]:
    """The images that exist, and for each id the position of its image among them, or ABSENT."""
    files, positions, ids = list[File](), dict[int, int](), dict[str, int]()
    prefix = "" if folder == disk.root else f"{folder.relative_to(disk.root)}/"
    for entry in content["images"]:
        name, number = entry["file_name"], entry["id"]
        if number in positions or name in ids:
            both = f"image {number} is there twice" if number in positions else f"{ids[name]} and {number} are {name}"
            findings.append(Finding("ambiguous id", place, both))
        elif disk.has(f"{folder}/{name}"):
            positions[number] = len(files)
            files.append(File(prefix + name, f"{folder}/{name}"))
        else:
            positions[number] = ABSENT
            findings.append(Finding("image missing", prefix + name, f"{place} names it"))
        ids.setdefault(name, number)
        positions.setdefault(number, ABSENT)
    return files, positions
