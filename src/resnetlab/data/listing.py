"""Which image files a data set has, and of which classes: found by layout, before any image is decoded."""

import csv
import hashlib
import re
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resnetlab.data.counter import permutation
from resnetlab.data.labels import imagenet, numbered
from resnetlab.data.preprocessing import is_image
from resnetlab.data.validation import validation_labels
from resnetlab.errors import ResnetlabError

TEST_SHARE = 0.1
PACKING = ".packing"  # in a folder that is not yet wholly packed
LAYOUT = "<class>/*.jpg, or train/<class>/*.jpg and test/<class>/*.jpg (or val/)"
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
SPLITS |= {"validation": "validation", "test": "test", "testing": "test"}
PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class")


@dataclass(frozen=True, slots=True)
class File:
    """An image in a file of its own, or `size` bytes from `offset` of a tar shard. `name` is for people."""

    name: str
    path: str
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ResnetlabError: the file is gone or cannot be read.
        """
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
class Listing:
    """The image files of a data set by split; `note` says how it was split."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    note: str = ""

    def fingerprint(self) -> str:
        """Hash of every name, size on disk and class: equal for equal folders, wherever they are."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for split in (self.train, self.test):
            for file, label in zip(split.files, split.labels.tolist(), strict=True):
                size = Path(file.path).stat().st_size if file.size is None else file.size
                digest.update(f"{file.name}\0{size}\0{label}\n".encode())
            digest.update(b"\n")
        return digest.hexdigest()[:16]

    def with_validation(self, count: int) -> "Listing":
        """`count` training images set apart for validation, the same ones whatever the run's seed.

        Raises:
            ResnetlabError: as many or more are asked for than there are, or there is a validation split already.
        """
        if not count:
            return self
        if self.validation is not None:
            raise ResnetlabError(f"{self.name} has validation images of its own; leave validation={count} out")
        if count >= len(self.train):
            raise ResnetlabError(
                f"cannot set {count} images apart for validation: {self.name} has {len(self.train)} training images"
            )
        order = permutation(len(self.train), seed=0, epoch=0, device=torch.device("cpu")).numpy()
        held_out, kept = np.sort(order[:count]), np.sort(order[count:])
        return replace(self, train=self.train[kept], validation=self.train[held_out])


@dataclass(frozen=True)
class Found:
    """What a folder holds, by split and class, before anything is refused. `None` is the split of unsplit data."""

    root: Path
    splits: dict[str | None, dict[str, list[File]]]
    classes: tuple[str, ...] | None = None
    kind: str = "folder"


def list_images(source: Path) -> Listing:
    """The image files of a folder, a CSV file or a folder of tar shards, by split.

    Layouts: `<class>/*`; `{train,val,test}/<class>/*`; ImageNet's own, with a flat `val/` and a file of its labels; a
    CSV with columns path and label, and maybe split; tar shards as WebDataset has them, an image and a `.cls` of the
    same name, with split names in their file names or folders. Classes are numbered in the order of their sorted
    names, shards' numbers are kept. Where there is no split, the tenth of each class whose paths hash lowest is for
    testing: stable when images are added. A validation folder is the test set where there is no test folder.

    Raises:
        ResnetlabError: none of these layouts, classes that differ between splits, a class without images.
    """
    found = find_images(source)
    _refuse_empty(found, source)
    splits = {name: {k: v for k, v in by_class.items() if v} for name, by_class in found.splits.items()}
    parts = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    if "train" in parts and len(parts) > 1 and len(parts) == len(splits):
        _refuse_differing_classes(found, source)
        note = f"split by {found.kind}: {', '.join(parts)}"
    else:
        together: dict[str, list[File]] = {}
        for by_class in splits.values():
            for name, files in by_class.items():
                together.setdefault(name, []).extend(files)
        parts = dict(zip(("train", "test"), _split(source, together), strict=True))
        note = f"no split found: {TEST_SHARE:.0%} of each class set apart for testing, chosen by a hash of the path"
    classes = found.classes or tuple(sorted(parts["train"]))
    numbers = {name: number for number, name in enumerate(classes)}
    done = {split: _numbered(by_class, numbers) for split, by_class in parts.items()}
    test = done.get("test") or done["validation"]
    validation = done.get("validation") if "test" in done else None
    return Listing(source.resolve().stem, classes, done["train"], test, validation, note)


def find_images(source: Path) -> Found:
    """All image files by split and class, whatever is wrong with them.

    Raises:
        ResnetlabError: there is no such folder or CSV file, or it is none of the layouts.
    """
    if source.suffix.lower() == ".csv":
        return _from_csv(source)
    if not source.is_dir():
        raise ResnetlabError(f"{source} is neither a folder of images by class nor a .csv file of path and label")
    kaggle = source / "ILSVRC" / "Data" / "CLS-LOC"
    source = kaggle if kaggle.is_dir() else source
    if shards := sorted(path for path in source.rglob("*.tar") if not path.name.startswith(".")):
        return _from_shards(source, shards)
    folders = {SPLITS[entry.name.lower()]: entry for entry in _folders(source) if entry.name.lower() in SPLITS}
    if "train" not in folders or len(folders) < 2:
        return Found(source, {None: _by_class(source, source)})
    splits: dict[str | None, dict[str, list[File]]] = {}
    for name in ("train", "validation", "test"):
        if name in folders:
            flat = not _folders(folders[name]) and name != "train"
            splits[name] = _flat(source, folders[name]) if flat else _by_class(source, folders[name])
    return Found(source, splits)


def _folders(place: Path) -> list[Path]:
    return [entry for entry in sorted(place.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]


def _by_class(root: Path, place: Path) -> dict[str, list[File]]:
    found = {}
    for entry in _folders(place):
        paths = sorted(path for path in entry.rglob("*") if is_image(path))
        found[entry.name] = [File(str(path.relative_to(root)), str(path)) for path in paths]
    return found


def _flat(root: Path, place: Path) -> dict[str, list[File]]:
    """Images of all classes in one folder, as ImageNet's validation images are; their labels are in a file."""
    labels = validation_labels(root, place)
    found: dict[str, list[File]] = {}
    for path in sorted(path for path in place.iterdir() if is_image(path)):
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
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        raise ResnetlabError(f"{path} cannot be read as a tar shard: {error}") from None
    if missing := sorted(images.keys() - labels.keys()):
        raise ResnetlabError(
            f"{path} has no {missing[0]}.cls for its image of that name; expected WebDataset's layout, an image and "
            "a .cls file of the same name. An archive of class folders must be unpacked"
        )
    return [(labels[key], file) for key, file in images.items()]


def _split(source: Path, by_class: dict[str, list[File]]) -> tuple[dict[str, list[File]], dict[str, list[File]]]:
    train, test = {}, {}
    for name, files in by_class.items():
        if len(files) < 2:
            raise ResnetlabError(f"{source}: class {name} has one image; a class needs two, one of them for testing")
        ranked = sorted(files, key=lambda file: hashlib.sha256(_place(file, name).encode()).digest())
        count = max(1, round(TEST_SHARE * len(ranked)))
        test[name], train[name] = (sorted(part, key=lambda f: f.name) for part in (ranked[:count], ranked[count:]))
    return train, test


def _place(file: File, label: str) -> str:
    """Class and file name, which stay the same when the folder moves."""
    path = Path(file.name)
    return f"{path.parent.name or label}/{path.name}"


def _numbered(by_class: dict[str, list[File]], numbers: dict[str, int]) -> Split:
    files = [(numbers[name], file) for name, by_name in by_class.items() for file in by_name]
    files.sort(key=lambda pair: pair[0])
    return Split(tuple(file for _, file in files), np.array([number for number, _ in files], dtype=np.int64))


def _refuse_empty(found: Found, source: Path) -> None:
    for part, by_class in found.splits.items():
        if len(by_class) < 2 and found.classes is None:
            count, where = len(by_class) or "no", f"{source}{f'/{part}' if part else ''}"
            if found.kind != "folder":
                raise ResnetlabError(f"{where} has images of {count} class{'es' * (not by_class)}; it takes two")
            raise ResnetlabError(f"{where} has {count} class folders; expected {LAYOUT}")
        if empty := [name for name, files in by_class.items() if not files]:
            raise ResnetlabError(f"{source}: no images in {', '.join(empty)}; expected {LAYOUT}")


def _refuse_differing_classes(found: Found, source: Path) -> None:
    train = found.splits["train"].keys()
    for part, by_class in found.splits.items():
        if found.classes is None and (odd := ", ".join(sorted(train ^ by_class.keys()))):
            raise ResnetlabError(f"{source}: these classes are in only one of train and {part}: {odd}")
