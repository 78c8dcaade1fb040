"""Folders of few images, in classes, to measure fine-tuning on, made from archives of real images."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

from benchmarks.archives import unpack
from resnetlab.errors import ResnetlabError

OWN = "automobile", "deer", "dog", "frog", "truck"
OTHERS = "airplane", "bird", "cat", "horse", "ship"
STARTING = "other-five"
"""The data of the weights that training starts from."""
DATA = {
    "cifar-50": "CIFAR-10 (JPEG), 5 classes, 50 images each",
    "cifar-250": "CIFAR-10 (JPEG), 5 classes, 250 images each",
    "hymenoptera": "ants and bees",
    "cells": "BCCD's cells, 3 classes",
}
TESTED = 200  # images of a class of CIFAR-10
SHORTER_SIDE = 160  # of photographs, at most: they are decoded in each pass
CELLS = 150  # of a class and split, at most
SMALLEST_CELL = 8  # pixels
PART = "_part"
CORNERS = "xmin", "ymin", "xmax", "ymax"


def make_folders(archives: Path, out: Path, starting: int = 5000) -> dict[str, Path]:
    """The folders of `DATA` and `STARTING`, each with `train/<class>` and `test/<class>`; existing ones are kept.

    `starting` is the number of training images of each class that the weights learn from.

    Raises:
        ResnetlabError: an archive is missing.
    """
    made = {name: out / name for name in (*DATA, STARTING)}
    missing = {name for name, folder in made.items() if not folder.is_dir()}
    with TemporaryDirectory() as temporary:
        whole = Path(temporary)
        if missing & {"cifar-50", "cifar-250", STARTING}:
            _extract(archives / "cifar10-jpeg.tar.xz", whole)
            for name, classes, count in (
                ("cifar-50", OWN, 50),
                ("cifar-250", OWN, 250),
                (STARTING, OTHERS, starting),
            ):
                if name in missing:
                    _take(whole, made[name], classes, count)
        if "hymenoptera" in missing:
            _extract(archives / "hymenoptera.tar", whole)
            _shrink(whole / "hymenoptera_data", made["hymenoptera"])
        if "cells" in missing:
            _extract(archives / "bccd.tar.xz", whole)
            _cut_cells(whole / "BCCD", made["cells"])
    return made


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """Images by split and class."""
    return {
        part.name: {each.name: sum(1 for _ in each.iterdir()) for each in sorted(part.iterdir())}
        for part in sorted(folder.iterdir())
    }


def _extract(archive: Path, into: Path) -> None:
    if not archive.exists():
        raise ResnetlabError(f"{archive} does not exist")
    unpack(archive, into)


def _take(whole: Path, out: Path, classes: Iterable[str], count: int) -> None:
    """The first images of each class, in the order of their names."""
    with _complete(out) as folder:
        for part, number in (("train", count), ("test", TESTED)):
            for name in classes:
                place = _folder(folder / part / name)
                for file in sorted((whole / part / name).iterdir())[:number]:
                    (place / file.name).write_bytes(file.read_bytes())


def _shrink(whole: Path, out: Path) -> None:
    """Photographs with a shorter side of `SHORTER_SIDE` at most; files that are none are left out."""
    with _complete(out) as folder:
        for source, part in (("train", "train"), ("val", "test")):
            for file in sorted((whole / source).glob("*/*")):
                try:
                    image = _read(file)
                except (UnidentifiedImageError, OSError):
                    continue
                share = SHORTER_SIDE / min(image.size)
                if share < 1:
                    width, height = image.size
                    image = image.resize((round(width * share), round(height * share)), Image.Resampling.BICUBIC)
                image.save(_folder(folder / part / file.parent.name) / file.name, "jpeg", quality=95)


def _cut_cells(whole: Path, out: Path) -> None:
    """Each box as an image; of a class with more, `CELLS` of them, drawn at random."""
    with _complete(out) as folder:
        for part, lists in (("train", ("train",)), ("test", ("val", "test"))):
            names = [
                name for each in lists for name in (whole / "ImageSets/Main" / f"{each}.txt").read_text().split()
            ]
            boxes = [(name, *box) for name in sorted(names) for box in _boxes(whole / "Annotations" / f"{name}.xml")]
            random.Random(0).shuffle(boxes)
            taken: Counter[str] = Counter()
            for name, label, corners in boxes:
                if taken[label] < CELLS:
                    number = taken[label]
                    taken[label] += 1
                    cell = _read(whole / "JPEGImages" / f"{name}.jpg").crop(corners)
                    place = _folder(folder / part / label) / f"{name}-{number}.jpg"
                    cell.save(place, "jpeg", quality=95, subsampling=0)


def _boxes(annotations: Path) -> list[tuple[str, tuple[int, int, int, int]]]:
    """The label and the corners of each box that is large enough."""
    found = []
    for each in ElementTree.parse(annotations).getroot().iter("object"):
        left, top, right, bottom = (
            int(each.findtext(f"bndbox/{key}", "0")) for key in ("xmin", "ymin", "xmax", "ymax")
        )
        left, top = max(left - 1, 0), max(top - 1, 0)  # VOC counts from 1
        if min(right - left, bottom - top) >= SMALLEST_CELL:
            found.append((each.findtext("name", ""), (left, top, right, bottom)))
    return found


@contextmanager
def _complete(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name once it is complete."""
    part = out.with_name(out.name + PART)
    yield part
    part.rename(out)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
