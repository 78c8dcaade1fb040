"""The image files of a data set in their split, found before any image is decoded."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resnetlab.data.counter import permutation
from resnetlab.data.images import Images, ImageSet
from resnetlab.data.layouts import File, Found, Split, find_images, numbered_split
from resnetlab.data.preprocessing import is_image
from resnetlab.errors import ResnetlabError

TEST_SHARE = 0.1
LAYOUT = "<class>/*.jpg, or train/<class>/*.jpg and test/<class>/*.jpg (or val/)"


@dataclass(frozen=True)
class Listing:
    """The image files of a data set by split; `note` says how it was split, `digest` is known of images in memory."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    note: str = ""
    digest: str = ""

    def fingerprint(self) -> str:
        """Hash of every name, size on disk and class: equal for equal folders, wherever they are."""
        if self.digest:
            return self.digest
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
    return split_images(find_images(source), source)


def split_images(found: Found, source: Path) -> Listing:
    """Images that were found, in the split they have, or in one of ours; see `list_images`."""
    _refuse_empty(found, source)
    splits = {name: {k: v for k, v in by_class.items() if v} for name, by_class in found.splits.items()}
    parts = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    if found.is_split:
        _refuse_differing_classes(found, source)
        note = f"split by {found.kind}: {', '.join(parts)}"
    else:
        parts = dict(zip(("train", "test"), _split(source, found.together()), strict=True))
        note = f"no split found: {TEST_SHARE:.0%} of each class set apart for testing, chosen by a hash of the path"
    classes = found.classes or tuple(sorted(parts["train"]))
    numbers = {name: number for number, name in enumerate(classes)}
    done = {split: numbered_split(by_class, numbers) for split, by_class in parts.items()}
    test = done.get("test") or done["validation"]
    validation = done.get("validation") if "test" in done else None
    return Listing(source.resolve().stem, classes, done["train"], test, validation, note)


def as_files(images: ImageSet) -> Listing:
    """Images in memory, as files that are read as they are needed, scaled and cropped."""

    def split(name: str, part: Images) -> Split:
        pixels = part.pixels.numpy()
        files = (File(f"{name} {k}", f"{images.name}, {name} {k}", pixels=shown) for k, shown in enumerate(pixels))
        return Split(tuple(files), part.labels.numpy())

    held = {"train": images.train, "test": images.test}
    validation = None if images.validation is None else split("validation", images.validation)
    train, test = (split(name, part) for name, part in held.items())
    return Listing(images.name, images.classes, train, test, validation, images.note, images.fingerprint())


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


def _refuse_differing_classes(found: Found, source: Path) -> None:
    train = found.splits["train"].keys()
    for part, by_class in found.splits.items():
        if found.classes is None and (odd := ", ".join(sorted(train ^ by_class.keys()))):
            raise ResnetlabError(f"{source}: these classes are in only one of train and {part}: {odd}")
