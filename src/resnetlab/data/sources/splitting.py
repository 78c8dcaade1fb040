"""List the image files of a data set by split, before any image is decoded."""

import hashlib
import os
from pathlib import Path

from resnetlab.data.class_names import check_names
from resnetlab.data.dataset import Dataset, File
from resnetlab.data.folds import Fold, folded
from resnetlab.data.held_out import hold_out
from resnetlab.data.preprocessing import is_image
from resnetlab.data.sources.layouts import Found, find_images, numbered_files
from resnetlab.errors import ResnetlabError
from resnetlab.files import resolved

TEST_SHARE = 0.1
LAYOUT = "<class>/*.jpg, or train/<class>/*.jpg and test/<class>/*.jpg (or val/)"


def list_images(source: Path, group_by: str | None = None, fold: Fold | None = None) -> Dataset:
    """The image files of a folder, a CSV file or a folder of tar shards, by split.

    Layouts: `<class>/*`; `{train,val,test}/<class>/*`; ImageNet's, with a flat `val/` and a label file; a CSV with
    columns path, label and optionally split; WebDataset's tar shards (an image and a `.cls` of the same name), with
    the split in file or folder names. Classes are numbered by sorted name; shards keep their numbers. Without a
    split, the tenth of each class with the lowest path hashes is for testing: this is stable when images are added.
    Equal files stay in one split, and so do those of one group; see `find_images`. Without a test folder, the
    validation folder is the test set.

    Raises:
        ResnetlabError: an unknown layout, classes that differ between splits, or a class without images.
    """
    return split_images(find_images(source, group_by), source, fold)


def split_images(found: Found, source: Path, fold: Fold | None = None) -> Dataset:
    """Check the files and use their split, or make one; see `list_images`."""
    _refuse_empty(found, source)
    for by_class in found.splits.values():
        check_names(by_class, source)
    _refuse_missing(found, source)
    splits = {name: {k: v for k, v in by_class.items() if v} for name, by_class in found.splits.items()}
    parts = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    if found.is_split:
        _refuse_differing_classes(found, source)
        note = f"split by {found.kind}: {', '.join(parts)}"
    else:
        parts = dict(zip(("train", "test"), _split(source, found.together()), strict=True))
        note = f"no split found: {TEST_SHARE:.0%} of each class held out for testing, chosen by a hash of the path"
        note += f"; groups by {found.group_by} stay together" if found.group_by else ""
    classes = found.classes or tuple(sorted(parts["train"]))
    done = {split: numbered_files(by_class, classes) for split, by_class in parts.items()}
    test = done.get("test") or done["validation"]
    validation = done.get("validation") if "test" in done else None
    name = resolved(source).stem
    dataset = Dataset(name, classes, done["train"], test, validation, note, automatic=not found.is_split)
    return folded(dataset, fold) if fold else dataset


def _split(source: Path, by_class: dict[str, list[File]]) -> tuple[dict[str, list[File]], dict[str, list[File]]]:
    """Hold out the files of each class with the lowest path hashes for testing."""
    for name, files in by_class.items():
        if len(files) < 2:
            raise ResnetlabError(f"{source}: class {name} has one image; a class needs two, one for testing")
    together = numbered_files(by_class, tuple(by_class))
    labels = together.labels.tolist()
    places = (_place(file, name) for name, files in by_class.items() for file in files)
    hashes = [hashlib.sha256(place.encode(errors="surrogateescape")).digest() for place in places]
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    quota = [max(1, round(TEST_SHARE * len(files))) for files in by_class.values()]
    held = hold_out(order, labels, together.units, quota)
    names = list(by_class)
    parts: tuple[dict[str, list[File]], dict[str, list[File]]] = ({}, {})
    for file, label, tested in sorted(zip(together.files, labels, held, strict=True), key=lambda each: each[0].name):
        parts[tested].setdefault(names[label], []).append(file)
    for name, files in by_class.items():
        if not all(name in part for part in parts):
            raise ResnetlabError(
                f"{source}: class {name} has {len(files)} files of the same content or group; a class needs two "
                "different images of its own, one for testing. `resnetlab check-data` lists files of the same content"
            )
    return parts


def _place(file: File, label: str) -> str:
    """Class and file name; they stay the same if the folder moves."""
    path = Path(file.name)
    return f"{path.parent.name or label}/{path.name}"


def _refuse_empty(found: Found, source: Path) -> None:
    for part, by_class in found.splits.items():
        if len(by_class) < 2 and found.classes is None:
            count, where = len(by_class) or "no", f"{source}{f'/{part}' if part else ''}"
            if found.kind != "folder":
                raise ResnetlabError(f"{where} has images of {count} class{'es' * (not by_class)}; it takes two")
            loose = sum(is_image(path) for path in source.iterdir()) if source.is_dir() else 0
            lying = f"; {loose:,} images lie in the folder itself" if loose else ""
            raise ResnetlabError(f"{where} has {count} class folders; expected {LAYOUT}{lying}")
        if empty := [name for name, files in by_class.items() if not files]:
            raise ResnetlabError(f"{source}: no images in {', '.join(empty)}; expected {LAYOUT}")


def _refuse_missing(found: Found, source: Path) -> None:
    """Refuse a CSV file that names missing images."""
    if found.kind != "the file":
        return
    files = [file for by_class in found.splits.values() for part in by_class.values() for file in part]
    is_file = os.path.isfile  # where a name is too long, Path.is_file raises
    if missing := [file.name for file in files if not is_file(file.path)]:
        count = f"{len(missing):,} files that do" if missing[1:] else "a file that does"
        more = " ..." * (len(missing) > 3)
        raise ResnetlabError(
            f"{source} names {count} not exist: {', '.join(missing[:3])}{more}; paths are relative to its folder"
        )


def _refuse_differing_classes(found: Found, source: Path) -> None:
    train = found.splits["train"].keys()
    for part, by_class in found.splits.items():
        if found.classes is None and (odd := ", ".join(sorted(train ^ by_class.keys()))):
            raise ResnetlabError(f"{source}: these classes are in only one of train and {part}: {odd}")
