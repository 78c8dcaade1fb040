"""Where image files lie and of which classes they are, by the layouts that people have; nothing is refused yet."""

import csv
import re
import tarfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from resnetlab.data.labels import imagenet, numbered
from resnetlab.data.preprocessing import is_image
from resnetlab.data.validation import validation_labels
from resnetlab.errors import ResnetlabError

PACKING = ".packing"  # in a folder that is not yet wholly packed
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
SPLITS |= {"validation": "validation", "test": "test", "testing": "test"}
PATH_COLUMNS = ("path", "file", "filename", "image")
OF_IMAGENET = re.compile(r"n\d{8}_|ILSVRC2012_val_")
LABEL_COLUMNS = ("label", "class")


@dataclass(frozen=True, slots=True)
class File:
    """An image in a file of its own, or `size` bytes from `offset` of a tar shard; or `pixels` in memory.

    `name` is for people.
    """

    name: str
    path: str
    offset: int = 0
    size: int | None = None
    pixels: UInt8[np.ndarray, "h w c"] | None = field(default=None, compare=False, repr=False)

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ResnetlabError: the file is gone or cannot be read.
        """
        if self.pixels is not None:  # as the simplest of formats, which Pillow reads at once
            height, width, channels = self.pixels.shape
            return b"P%d %d %d 255\n" % (6 if channels == 3 else 5, width, height) + self.pixels.tobytes()
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 -- a third of the time of Path.open
                file.seek(self.offset)
                return file.read() if self.size is None else file.read(self.size)
        except OSError as error:
            raise ResnetlabError(f"{self.name} cannot be read: {error}") from None


@dataclass(frozen=True)
class Split:
    """Image files and the numbers of their classes."""

    files: tuple[File, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: np.ndarray | list[int]) -> "Split":
        return Split(tuple(self.files[k] for k in index), self.labels[index])


@dataclass(frozen=True)
class Found:
    """What a folder holds, by split and class, before anything is refused. `None` is the split of unsplit data."""

    root: Path
    splits: dict[str | None, dict[str, list[File]]]
    classes: tuple[str, ...] | None = None
    kind: str = "folder"

    @property
    def is_split(self) -> bool:
        """Whether there are training images and others, told apart."""
        held = {name for name, by_class in self.splits.items() if any(by_class.values())}
        return "train" in held and len(held) > 1 and None not in held

    def together(self) -> dict[str, list[File]]:
        """The images of each class, of all splits."""
        found: dict[str, list[File]] = {}
        for by_class in self.splits.values():
            for name, files in by_class.items():
                if files:
                    found.setdefault(name, []).extend(files)
        return found

    def all(self) -> tuple[tuple[str, ...], Split]:
        """The classes, and the images of all splits."""
        found = self.together()
        classes = self.classes or tuple(sorted(found))
        return classes, numbered_split(found, {name: number for number, name in enumerate(classes)})


def find_images(source: Path) -> Found:
    """All image files by split and class, whatever is wrong with them.

    Raises:
        ResnetlabError: there is no such folder or CSV file, or it is none of the layouts.
    """
    if source.suffix.lower() == ".csv":
        return _from_csv(source)
    if source.is_file() and source.suffix.lower() == ".tar":
        return _from_shards(source.parent, [source])
    if not source.is_dir():
        raise ResnetlabError(f"{source} is neither a folder of images by class nor a .csv or .tar file")
    kaggle = source / "ILSVRC" / "Data" / "CLS-LOC"
    source = kaggle if kaggle.is_dir() else source
    if shards := sorted(path for path in source.rglob("*.tar") if not path.name.startswith(".")):
        return _from_shards(source, shards)
    folders = {SPLITS[entry.name.lower()]: entry for entry in _folders(source) if entry.name.lower() in SPLITS}
    if "train" not in folders or len(folders) < 2:
        return Found(source, {None: _flat(source, source) if _is_flat(source) else _by_class(source, source)})
    splits: dict[str | None, dict[str, list[File]]] = {}
    for name in ("train", "validation", "test"):
        if name in folders:
            flat = (not _folders(folders[name]) and name != "train") or _is_flat(folders[name])
            splits[name] = _flat(source, folders[name]) if flat else _by_class(source, folders[name])
    return Found(source, splits)


def is_listed(source: Path) -> bool:
    """Whether a path is one of image files: a folder, a .csv or a .tar file."""
    return source.is_dir() or (source.is_file() and source.suffix.lower() in (".csv", ".tar"))


def _folders(place: Path) -> list[Path]:
    return [entry for entry in sorted(place.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]


def _by_class(root: Path, place: Path) -> dict[str, list[File]]:
    found = {}
    for entry in _folders(place):
        paths = sorted(path for path in entry.rglob("*") if is_image(path))
        found[entry.name] = [File(str(path.relative_to(root)), str(path)) for path in paths]
    return found


def _is_flat(place: Path) -> bool:
    """Whether a folder's images lie in it, or in one folder in it, all together, and are called as ImageNet's."""
    inside = _folders(place)
    names = [path.name for path in islice((inside or [place])[0].iterdir(), 100) if is_image(path)]
    return len(inside) < 2 and bool(names) and all(OF_IMAGENET.match(name) for name in names)


def _flat(root: Path, place: Path) -> dict[str, list[File]]:
    """Images of all classes in one folder: their names begin with WordNet ids, or their labels are in a file."""
    place = next(iter(_folders(place)), place)
    paths = sorted(path for path in place.iterdir() if is_image(path))
    found: dict[str, list[File]] = {}
    if all(_wordnet_id(path.name) for path in paths):
        for path in paths:
            found.setdefault(path.name[:9], []).append(File(str(path.relative_to(root)), str(path)))
        return found
    labels = validation_labels(root, place)
    for path in paths:
        if path.stem not in labels:
            raise ResnetlabError(f"{path}: the file of {place.name}'s labels does not name it")
        found.setdefault(labels[path.stem], []).append(File(str(path.relative_to(root)), str(path)))
    return found


def _from_csv(source: Path) -> Found:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResnetlabError(f"{source} cannot be read as CSV: {error}") from None
    columns = {str(key).strip().lower(): key for key in rows[0]} if rows else {}
    paths = next((columns[name] for name in PATH_COLUMNS if name in columns), None)
    labels = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
    if paths is None or labels is None:
        raise ResnetlabError(
            f"{source} has the columns {', '.join(columns) or 'none'}; expected path and label, and maybe split"
        )
    splits: dict[str | None, dict[str, list[File]]] = {}
    for number, row in enumerate(rows, 2):
        name, label = (row[paths] or "").strip(), (row[labels] or "").strip()
        part = (row[columns["split"]] or "").strip().lower() if "split" in columns else ""
        if not name or not label or (part and part not in SPLITS):
            known = "train, val or test"
            raise ResnetlabError(f"{source}, line {number}: {row}; expected a path, a label, and as split {known}")
        files = splits.setdefault(SPLITS[part] if part else None, {}).setdefault(label, [])
        files.append(File(name, str(source.parent / name)))
    if None in splits and len(splits) > 1:
        raise ResnetlabError(f"{source}: some lines have a split and some have none; give all of them one, or none")
    return Found(source.parent, splits, kind="the file")


def _from_shards(root: Path, shards: list[Path]) -> Found:
    """WebDataset's layout: members `key.jpg` and `key.cls`, the class's number or name."""
    if (root / PACKING).exists():
        raise ResnetlabError(f"{root} is not wholly packed; give the same `resnetlab pack` command again")
    splits: dict[str | None, dict[str, list[File]]] = {}
    for path in shards:
        words = [*path.relative_to(root).parts[:-1], *re.split(r"[^a-zA-Z]+", path.stem)]
        part = next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)
        by_class = splits.setdefault(part, {})
        for label, file in _members(root, path):
            by_class.setdefault(label, []).append(file)
    labels = {label for by_class in splits.values() for label in by_class}
    if not all(label.isdecimal() for label in labels):
        return Found(root, splits, kind="shard")
    count = 1 + max(map(int, labels))
    names = (root / "classes.txt").read_text().splitlines() if (root / "classes.txt").is_file() else None
    names = names or list(imagenet() if count == 1000 else numbered(count))
    if len(names) < count:
        raise ResnetlabError(
            f"{root / 'classes.txt'} names {len(names)} classes; the shards have numbers up to {count - 1}"
        )
    by_name = {part: {names[int(k)]: files for k, files in found.items()} for part, found in splits.items()}
    return Found(root, by_name, tuple(names), kind="shard")


def _members(root: Path, path: Path) -> list[tuple[str, File]]:
    """Label and place of each image of a shard; the shard's own bytes are read, and nothing is unpacked."""
    images: dict[str, File] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.removeprefix("./").partition(".")
                if member.isfile() and suffix.lower() in ("cls", "cls.txt", "label"):
                    content = tar.extractfile(member)
                    labels[key] = content.read().decode().strip() if content else ""
                elif member.isfile() and is_image(Path(member.name)):
                    name = f"{path.relative_to(root)}/{member.name.removeprefix('./')}"
                    images[key] = File(name, str(path), member.offset_data, member.size)
                    if wordnet_id := _wordnet_id(Path(member.name).name):
                        labels.setdefault(key, wordnet_id)
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        raise ResnetlabError(f"{path} cannot be read as a tar shard: {error}") from None
    if missing := sorted(images.keys() - labels.keys()):
        raise ResnetlabError(
            f"{path} has no {missing[0]}.cls for its image of that name; expected WebDataset's layout, an image and "
            "a .cls file of the same name, or names that begin with WordNet ids as ImageNet's, "
            "n01440764_10026.JPEG. An archive of class folders must be unpacked"
        )
    return [(labels[key], file) for key, file in images.items()]


def _wordnet_id(name: str) -> str | None:
    """The class of an image that is called as ImageNet's training images are."""
    return name[:9] if name[9:10] == "_" and name[:9] in imagenet() else None


def numbered_split(by_class: dict[str, list[File]], numbers: dict[str, int]) -> Split:
    """Files by class as a split, in the order of the classes' numbers."""
    files = [(numbers[name], file) for name, by_name in by_class.items() for file in by_name]
    files.sort(key=lambda pair: pair[0])
    return Split(tuple(file for _, file in files), np.array([number for number, _ in files], dtype=np.int64))
