"""Find image files and their classes in the common folder layouts, without checks of the result."""

import csv
import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from resnetlab.data.class_names import imagenet, numbered
from resnetlab.data.dataset import File, Files
from resnetlab.data.preprocessing import is_image
from resnetlab.data.sources.imagenet_labels import validation_labels
from resnetlab.errors import ResnetlabError, is_text
from resnetlab.files import open_regular, read_text

PACKING = ".packing"  # marks a folder whose packing is not complete
MOST_BYTES = 1 << 36  # of a table
MOST_CLASSES = 1_000_000  # by number
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
SPLITS |= {"validation": "validation", "test": "test", "testing": "test"}
PATH_COLUMNS = ("path", "file", "filename", "image")
OF_IMAGENET = re.compile(r"n\d{8}_|ILSVRC2012_val_")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "part", "phase", "fold", "usage")


@dataclass(frozen=True)
class Found:
    """The files of a source by split and class, before any checks. `None` is the split of unsplit data.

    `group_by` says how the files were grouped, if they were.
    """

    root: Path
    splits: dict[str | None, dict[str, list[File]]]
    classes: tuple[str, ...] | None = None
    kind: str = "folder"
    group_by: str = ""

    @property
    def is_split(self) -> bool:
        """Whether there are training images and at least one other split."""
        held = {name for name, by_class in self.splits.items() if any(by_class.values())}
        return "train" in held and len(held) > 1 and None not in held

    def together(self) -> dict[str, list[File]]:
        """The images of each class over all splits."""
        found: dict[str, list[File]] = {}
        for by_class in self.splits.values():
            for name, files in by_class.items():
                if files:
                    found.setdefault(name, []).extend(files)
        return found

    def all(self) -> tuple[tuple[str, ...], Files]:
        """The classes and the images of all splits."""
        found = self.together()
        classes = self.classes or tuple(sorted(found))
        return classes, numbered_files(found, classes)


def find_images(source: Path, group_by: str | None = None) -> Found:
    """All image files by split and class, without checks.

    `group_by` is a column of the CSV file, or a regular expression: files are of one group if it matches the same
    text in their names (with parentheses, the text inside).

    Raises:
        ResnetlabError: the source does not exist or has an unknown layout; files cannot be grouped.
    """
    found = _found(source, group_by)
    return found if group_by is None or found.group_by else grouped(found, group_by)


def grouped(found: Found, pattern: str) -> Found:
    """The same files, in groups by a part of their names; see `find_images`.

    Raises:
        ResnetlabError: not a regular expression, a name that it does not match, or a single group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ResnetlabError(
            f"`group_by={pattern}` is neither a column of a CSV file nor a regular expression: {error}"
        ) from None
    groups = set()

    def with_group(file: File) -> File:
        if (match := expression.search(file.name)) is None:
            raise ResnetlabError(
                f"`group_by={pattern}` does not match {file.name}; it must match a part of every file's name, or be "
                "a column of the CSV file"
            )
        groups.add(group := "/".join(text or "" for text in match.groups()) or match[0])
        return replace(file, group=group)

    splits = {
        name: {label: [with_group(file) for file in files] for label, files in by_class.items()}
        for name, by_class in found.splits.items()
    }
    return _of_several_groups(replace(found, splits=splits, group_by=f"`{pattern}` in their names"), pattern, groups)


def _of_several_groups(found: Found, group_by: str, groups: set[str]) -> Found:
    if len(groups) < 2:
        raise ResnetlabError(f"`group_by={group_by}` puts all files into one group, {min(groups, default='')!r}")
    return found


def _found(source: Path, group_by: str | None) -> Found:
    if source.suffix.lower() == ".csv":
        return _from_csv(source, group_by)
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
    """Whether a path is a source of image files: a folder, a .csv or a .tar file."""
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
    """Whether all images are in this folder or its only subfolder, with names like ImageNet's."""
    inside = _folders(place)
    names = [path.name for path in islice((inside or [place])[0].iterdir(), 100) if is_image(path)]
    return len(inside) < 2 and bool(names) and all(OF_IMAGENET.match(name) for name in names)


def _flat(root: Path, place: Path) -> dict[str, list[File]]:
    """Images of all classes in one folder; WordNet ids in their names or a file give the labels."""
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


def _from_csv(source: Path, group_by: str | None = None) -> Found:
    rows, columns = _csv_rows(source)
    group_of = columns.get((group_by or "").lower())
    paths, labels, part_of = (
        next((columns[name] for name in names if name in columns), None)
        for names in (PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if paths is None or labels is None:
        raise ResnetlabError(
            f"{source} has the columns {', '.join(columns) or 'none'}; its first line must have path, label and "
            "optionally split"
        )
    if not rows:
        raise ResnetlabError(f"{source} has no lines after the first; expected a path and a label on each")
    splits: dict[str | None, dict[str, list[File]]] = {}
    for number, row in enumerate(rows, 2):
        name, label = (row[paths] or "").strip(), (row[labels] or "").strip()
        part = (row[part_of] or "").strip().lower() if part_of is not None else ""
        if not name or not label or (part and part not in SPLITS) or None in row:
            known = "train, val or test"
            cells = [cell or "" for cell in row.values() if not isinstance(cell, list)]
            raise ResnetlabError(
                f"{source}, line {number}: {', '.join(cells)[:200]!r}; expected a path, a label, a split of {known}, "
                "and no more cells than in the first line"
            )
        files = splits.setdefault(SPLITS[part] if part else None, {}).setdefault(label, [])
        group = (row[group_of] or "").strip() if group_of else ""
        files.append(File(name, str(source.parent / name), group=group))
    if None in splits and len(splits) > 1:
        raise ResnetlabError(f"{source}: some lines have a split and some have none; give all lines a split, or none")
    found = Found(source.parent, splits, kind="the file")
    if group_of is None or group_by is None:
        return found
    groups = {file.group for by_class in splits.values() for files in by_class.values() for file in files}
    return _of_several_groups(replace(found, group_by=f"column {group_of}"), group_by, groups)


def _csv_rows(source: Path) -> tuple[list[dict[str | None, str | None]], dict[str, str | None]]:
    """The data lines of a CSV file, and its column names by their lower-case form."""
    text = read_text(source, "surrogateescape", MOST_BYTES)
    first = text.partition("\n")[0]
    separator = "," if "," in first else next((mark for mark in ";\t" if mark in first), ",")  # of Excel in Europe
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        rows, names = list(reader), [str(name) for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise ResnetlabError(f"{source} cannot be read as CSV: {error}") from None
    labels = {(row.get(name) or "") for row in rows for name in names if name.strip().lower() in LABEL_COLUMNS}
    if any(not is_text(text) for text in (*names, *labels)):
        raise ResnetlabError(f"{source} is not in UTF-8; save it as CSV in UTF-8")
    if any(is_image(Path(name.strip())) for name in names):
        raise ResnetlabError(
            f"{source} begins with {', '.join(names)}, which is a line of data; its first line must name the "
            "columns: path,label and optionally split"
        )
    columns = {name.strip().lower(): name for name in names}
    if len(columns) < len(names):
        raise ResnetlabError(f"{source} names a column twice: {', '.join(names)}")
    return rows, dict(columns)


def _from_shards(root: Path, shards: list[Path]) -> Found:
    """WebDataset layout: members `key.jpg` and `key.cls`, which has the class number or name."""
    if (root / PACKING).exists():
        raise ResnetlabError(f"{root} is not completely packed; run the same `resnetlab pack` command again")
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
    if count > MOST_CLASSES:
        raise ResnetlabError(f"{root} has the class number {count - 1:,}; at most {MOST_CLASSES:,} classes are read")
    names = read_text(root / "classes.txt").splitlines() if (root / "classes.txt").exists() else None
    names = names or list(imagenet() if count == 1000 else numbered(count))
    if len(names) < count:
        raise ResnetlabError(
            f"{root / 'classes.txt'} names {len(names)} classes; the shards have numbers up to {count - 1}"
        )
    by_name = {part: {names[int(k)]: files for k, files in found.items()} for part, found in splits.items()}
    return Found(root, by_name, tuple(names), kind="shard")


def _members(root: Path, path: Path) -> list[tuple[str, File]]:
    """Label and file of each image in a shard, which is read in place without unpacking."""
    images: dict[str, File] = {}
    labels: dict[str, str] = {}
    try:
        end = path.stat().st_size
        with io.BufferedReader(open_regular(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile() and not 0 <= member.size <= end - member.offset_data:
                    raise tarfile.TarError(f"{member.name!r} is said to have {member.size:,} bytes")
                key, _, suffix = member.name.removeprefix("./").partition(".")
                if member.isfile() and suffix.lower() in ("cls", "cls.txt", "label"):
                    content = tar.extractfile(member)
                    labels[key] = content.read().decode().strip() if content else ""
                elif member.isfile() and is_image(Path(member.name)):
                    name = f"{path.relative_to(root)}/{member.name.removeprefix('./')}"
                    images[key] = File(name, str(path), member.offset_data, member.size)
                    if wordnet_id := _wordnet_id(Path(member.name).name):
                        labels.setdefault(key, wordnet_id)
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise ResnetlabError(f"{path} cannot be read as a tar shard: {error}") from None
    if missing := sorted(images.keys() - labels.keys()):
        raise ResnetlabError(
            f"{path} has no {missing[0]}.cls for its image of that name; expected WebDataset's layout, an image and "
            "a .cls file of the same name, or names that begin with WordNet ids like ImageNet's "
            "n01440764_10026.JPEG. Unpack an archive of class folders first"
        )
    return [(labels[key], file) for key, file in images.items()]


def _wordnet_id(name: str) -> str | None:
    """The class of an image with a name like ImageNet's training images, otherwise None."""
    return name[:9] if name[9:10] == "_" and name[:9] in imagenet() else None


def numbered_files(by_class: dict[str, list[File]], classes: Sequence[str]) -> Files:
    """Files by class as a split; the order of the classes gives their numbers."""
    pairs = [(number, file) for number, name in enumerate(classes) for file in by_class.get(name, ())]
    return Files(tuple(file for _, file in pairs), torch.tensor([number for number, _ in pairs], dtype=torch.int64))
