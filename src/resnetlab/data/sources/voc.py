"""Read the annotations of a Pascal VOC folder: one XML file per image, and lists of images by split."""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from resnetlab.data.dataset import File
from resnetlab.data.findings import Finding
from resnetlab.data.preprocessing import is_image
from resnetlab.data.sources.raw_boxes import Annotations, RawBoxes
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular, read_text

FOLDERS = ("Annotations", "JPEGImages"), ("annotations", "images")
LARGEST = 1 << 31  # pixels that an image is said to have
CORNERS = "xmin", "ymin", "xmax", "ymax"
Object = tuple[int, str, list[float], bool]
"""Number in its file, class, coordinates as written, whether it is difficult."""


@dataclass(frozen=True)
class Described:
    """The content of an XML file: the stated width and height of the image, and its objects."""

    size: tuple[int, int]
    objects: tuple[Object, ...]


def voc_folders(source: Path) -> list[Path]:
    """The folder itself if it has VOC's layout, otherwise its subfolders that have it."""
    if not source.is_dir() or _layout(source):
        return [source] if source.is_dir() else []
    with os.scandir(source) as entries:
        inside = sorted(entry.path for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    return [Path(path) for path in inside if _layout(Path(path))]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # links to themselves
        return entry.is_dir()
    return False


def read_voc(source: Path) -> Annotations:
    """Images and boxes by the lists in ImageSets/Main, or unsplit; see `list_annotated`.

    Raises:
        ResnetlabError: the folder holds several VOC folders, or a list cannot be read.
    """
    root, *more = voc_folders(source)
    if more:
        names = ", ".join(path.name for path in (root, *more))
        raise ResnetlabError(f"{source} holds several data sets, {names}; give the path of one")
    annotations, images = _layout(root) or (root, root)
    files = {path.stem: f"{images.name}/{path.name}" for path in sorted(images.iterdir()) if is_image(path)}
    places = {
        path.stem: f"{annotations.name}/{path.name}"
        for path in sorted(annotations.glob("*.xml"))
        if not path.name.startswith(".")
    }
    lists = _lists(root) or {None: [name for name in places if name in files]}
    findings = _unmatched(lists, files, places, annotations.name, images.name)
    described: dict[str, Described] = {}
    for name in dict.fromkeys(name for names in lists.values() for name in names if name in places and name in files):
        described[name] = _described(root, places[name], findings)
    classes = tuple(sorted({label for each in described.values() for _, label, _, _ in each.objects}))
    splits = {
        split: _raw(
            root, [(files[name], places[name], described[name]) for name in names if name in described], classes
        )
        for split, names in lists.items()
    }
    return Annotations(root, classes, splits, tuple(findings), "ImageSets/Main")


def _layout(folder: Path) -> tuple[Path, Path] | None:
    """The folders of annotations and images; only those with an XML file count.

    Raises:
        ResnetlabError: one of VOC's two folders is there, and the other or its files are not.
    """
    for annotations, images in ((folder / a, folder / b) for a, b in FOLDERS):
        if annotations.is_dir() and images.is_dir():
            with os.scandir(annotations) as entries:
                if any(entry.name.endswith(".xml") for entry in entries):
                    return annotations, images
    annotations, images = (folder / name for name in FOLDERS[0])
    if annotations.is_dir() and any(annotations.glob("*.xml")):
        raise ResnetlabError(f"{annotations} has .xml files, but {images} with their images is missing")
    if annotations.is_dir() and images.is_dir():
        raise ResnetlabError(f"{annotations} has no .xml files; expected one for each image in {images}")
    return None


def _lists(root: Path) -> dict[str | None, list[str]]:
    """The names of the images of each split; `trainval` counts where there is no `train`."""
    found = {}
    for name in ("train", "val", "trainval", "test"):
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            lines = [line.strip() for line in read_text(path).splitlines()]
            names = (Path(line).stem if is_image(Path(line)) else line for line in lines if line)
            found[name] = list(dict.fromkeys(names))
    val = found.get("val", [])
    train = found.get("train") or [name for name in found.get("trainval", []) if name not in set(val)]
    splits: dict[str | None, list[str]] = {"train": train, "validation": val, "test": found.get("test", [])}
    return {split: names for split, names in splits.items() if names}


def _unmatched(
    lists: dict[str | None, list[str]], files: dict[str, str], places: dict[str, str], annotations: str, images: str
) -> list[Finding]:
    """Listed images without file or annotation, and files that no list names."""
    findings = []
    listed = {name for names in lists.values() for name in names}
    for split, names in lists.items():
        for name in names:
            if name not in files:
                findings.append(Finding("image missing", f"{images}/{name}.jpg", f"the list of {split} names it"))
            elif name not in places:
                findings.append(
                    Finding("annotation missing", f"{annotations}/{name}.xml", f"the list of {split} names its image")
                )
    findings += [Finding("image in no split", file) for name, file in files.items() if name not in listed]
    lone = [name for name in places if name not in listed and name not in files]
    return findings + [Finding("annotation without image", places[name]) for name in lone]


def _described(root: Path, place: str, findings: list[Finding]) -> Described:
    """The content of an XML file; what is wrong with it is added to `findings`."""
    try:
        tree = ElementTree.fromstring(read_regular(root / place))  # noqa: S314 -- expat limits the expansion of entities
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        findings.append(Finding("unreadable annotation", place, f"{error}"))
        return Described((0, 0), ())
    if tree.tag != "annotation":
        detail = f"its root element is <{tree.tag}>, expected <annotation>"
        findings.append(Finding("unreadable annotation", place, detail))
    width, height = (_number(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    objects = []
    for number, each in enumerate(tree.findall("object"), 1):
        label = (each.findtext("name") or "").strip()
        texts = [(each.findtext(f"bndbox/{corner}") or "").strip() for corner in CORNERS]
        corners = [_number(text) for text in texts]
        if not label:
            findings.append(Finding("unreadable annotation", place, f"object {number} has no <name>"))
        elif not all(map(math.isfinite, corners)):
            shown = ", ".join(f"{corner} {text or 'missing'}" for corner, text in zip(CORNERS, texts, strict=True))
            findings.append(Finding("coordinates that are not numbers", place, f"box {number} ({label}): {shown}"))
        else:
            difficult = (each.findtext("difficult") or "").strip().lower() in ("1", "true")
            objects.append((number, label, corners, difficult))
    size = (int(width), int(height)) if abs(width) < LARGEST and abs(height) < LARGEST else (0, 0)
    return Described(size, tuple(objects))


def _number(text: str | None) -> float:
    """The number, or NaN."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _raw(root: Path, images: Sequence[tuple[str, str, Described]], classes: Iterable[str]) -> RawBoxes:
    """The images, each with its file, its annotation and their content, as a split."""
    numbers = {label: k for k, label in enumerate(classes)}
    objects = [(k, *each) for k, (_, _, described) in enumerate(images) for each in described.objects]
    return RawBoxes(
        "VOC",
        tuple(File(file, str(root / file)) for file, _, _ in images),
        tuple(place for _, place, _ in images),
        sizes=np.array([described.size for _, _, described in images], np.int64).reshape(-1, 2),
        image=np.array([k for k, *_ in objects], np.int64),
        numbers=np.array([number for _, number, *_ in objects], np.int64),
        written=np.array([corners for *_, corners, _ in objects], np.float64).reshape(-1, 4),
        classes=np.array([numbers[label] for _, _, label, *_ in objects], np.int64),
        difficult=np.array([difficult for *_, difficult in objects], bool),
        crowd=np.zeros(len(objects), bool),
    )
