"""A data set: classes and splits. A split is pixels in memory or files that are read on demand."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image
from torch import Tensor

from resnetlab.data.boxes import Boxes
from resnetlab.data.counter import permutation
from resnetlab.data.held_out import Unit, hold_out, shares, units
from resnetlab.data.preprocessing import open_image
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular

Index = slice | Int64[Tensor, "k"]
HEAD = 4096  # bytes


@dataclass(frozen=True)
class Pixels:
    """Images of one size in memory (0 to 255, RGB or grey) and their labels: class numbers, or a row per image."""

    pixels: UInt8[Tensor, "n h w c"]
    labels: Shaped[Tensor, "n *target"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Index) -> "Pixels":
        return Pixels(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> "Pixels":
        """A copy of the images on a device."""
        return Pixels(self.pixels.to(device), self.labels.to(device))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Image numbers, for display."""
        return tuple(map(str, range(len(self))))

    def place(self, number: int) -> str:
        """The name of one image in error messages."""
        return f"image {number}"

    @cached_property
    def units(self) -> list[Unit]:
        """The images that stay together when some are held out: equal ones."""
        return units([hashlib.blake2b(image, digest_size=16).digest() for image in self.pixels.cpu().numpy()])

    def open(self, number: int) -> Image.Image:
        """One image, as a Pillow image."""
        shown = self.pixels[number].numpy()
        return Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown)

    def digest(self, into: "hashlib._Hash") -> None:
        """Hash every pixel and label."""
        into.update(repr(tuple(self.pixels.shape)).encode())
        into.update(self.pixels.numpy().tobytes())
        into.update(self.labels.numpy().tobytes())


@dataclass(frozen=True, slots=True)
class File:
    """An image: a whole file, `size` bytes from `offset` of a tar shard, or `pixels` in memory. `name` is shown.

    Images of one `group` stay together when some are held out; empty: no group.
    """

    name: str
    path: str
    offset: int = 0
    size: int | None = None
    pixels: UInt8[np.ndarray, "h w c"] | None = field(default=None, compare=False, repr=False)
    group: str = field(default="", compare=False)

    def read(self, limit: int | None = None) -> bytes:
        """The encoded image, or at most its first `limit` bytes.

        Raises:
            ResnetlabError: the file is missing or cannot be read.
        """
        if self.pixels is not None:  # as PPM or PGM, which Pillow reads fast
            height, width, channels = self.pixels.shape
            return b"P%d %d %d 255\n" % (6 if channels == 3 else 5, width, height) + self.pixels.tobytes()
        size = self.size if limit is None else min(limit, limit if self.size is None else self.size)
        try:
            return read_regular(self.path, self.offset, size)
        except (OSError, ValueError) as error:  # of a name with a zero byte a ValueError
            raise ResnetlabError(f"{self.name} cannot be read: {error}") from None

    @property
    def bytes(self) -> int:
        """The size of the encoded image; of an image in memory that of its pixels.

        Raises:
            ResnetlabError: the file is missing or cannot be read.
        """
        if self.size is not None:
            return self.size
        try:
            return Path(self.path).stat().st_size if self.pixels is None else self.pixels.nbytes
        except (OSError, ValueError) as error:
            raise ResnetlabError(f"{self.name} cannot be read: {error}") from None

    def open(self) -> Image.Image:
        """The image, rotated upright.

        Raises:
            ResnetlabError: it cannot be read as an image.
        """
        return open_image(self.read(), self.path)


@dataclass(frozen=True)
class Files:
    """Image files and their class numbers; or their `boxes`, and then rows of no numbers as labels."""

    files: tuple[File, ...]
    labels: Shaped[Tensor, "n *target"]
    boxes: Boxes | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Index) -> "Files":
        files = self.files[index] if isinstance(index, slice) else tuple(self.files[k] for k in index.tolist())
        return Files(files, self.labels[index], None if self.boxes is None else self.boxes[index])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File names, for display."""
        return tuple(file.name for file in self.files)

    def place(self, number: int) -> str:
        """The path of one image, for error messages."""
        return self.files[number].path

    @cached_property
    def units(self) -> list[Unit]:
        """The images that stay together when some are held out: those of equal content, and those of one group."""
        contents = same_content(self.files)
        return units([contents[file] for file in self.files], [file.group or None for file in self.files])

    def open(self, number: int) -> Image.Image:
        """One image; see `File.open`."""
        return self.files[number].open()

    def digest(self, into: "hashlib._Hash") -> None:
        """Hash every name, size on disk, and label or list of boxes."""
        for file, label in zip(self.files, (self.labels if self.boxes is None else self.boxes).tolist(), strict=True):
            try:
                size = Path(file.path).stat().st_size if file.size is None else file.size
            except OSError:  # a link to nothing, which is skipped or named where it is read
                size = -1
            into.update(f"{file.name}\0{size}\0{label}\n".encode(errors="surrogateescape"))
        into.update(b"\n")


Split = Pixels | Files


def joined(splits: Sequence[Split]) -> Split:
    """Several splits in one; all use the same storage."""
    labels = torch.cat([split.labels for split in splits])
    if all(isinstance(split, Files) for split in splits):
        return Files(tuple(file for split in splits if isinstance(split, Files) for file in split.files), labels)
    return Pixels(torch.cat([split.pixels for split in splits if isinstance(split, Pixels)]), labels)


@dataclass(frozen=True)
class Dataset:
    """A data set by split; all splits use the same storage. `note` says how it was split, if not officially.

    `unreadable` lists the files that were skipped. `made_from` is the fingerprint of the source data, if known.
    `automatic` is true if the test images were held out here, so that the images may be divided in another way.
    For COCO's file of results, `category_ids` has the id of each class, and `image_ids` that of each file by name.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    note: str = ""
    unreadable: tuple[str, ...] = ()
    made_from: str = ""
    category_ids: tuple[int, ...] = ()
    image_ids: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    automatic: bool = False

    @property
    def splits(self) -> dict[str, Split]:
        """The existing splits by name."""
        held = {"train": self.train, "test": self.test}
        return held if self.validation is None else held | {"validation": self.validation}

    @property
    def resident(self) -> bool:
        """Whether the images are in memory."""
        return isinstance(self.train, Pixels)

    @property
    def has_boxes(self) -> bool:
        """Whether the images have boxes, for detection, in place of labels."""
        return isinstance(self.train, Files) and self.train.boxes is not None

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height, width of images in memory; None for files, whose sizes may differ."""
        if not isinstance(self.train, Pixels):
            return None
        height, width, channels = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def split_note(self) -> str:
        """How the data is split, as text."""
        return self.note or "official split"

    def describe(self) -> str:
        """One line of text: name, counts, sizes, classes, split."""
        shape = self.image_shape
        validation = f"{len(self.validation):,} validation " if self.validation is not None else ""
        pixels = f" of {shape[2]}x{shape[1]} pixels, {shape[0]} channel{'s' * (shape[0] > 1)}" if shape else ""
        if self.has_boxes:
            pixels = f" with {sum(_boxes(split) for split in self.splits.values()):,} boxes"
        skipped = f"; {len(self.unreadable):,} unreadable, skipped" if self.unreadable else ""
        counts = f"{len(self.train):,} training, {validation}and {len(self.test):,} test images{pixels}"
        counts = counts if validation else counts.replace(", and", " and")
        several = "es" * (len(self.classes) != 1)
        return f"{self.name}: {counts}, {len(self.classes)} class{several}; {self.split_note}{skipped}"

    def fingerprint(self) -> str:
        """Hash of classes, training and test images (pixels in memory: content; files: names and sizes).

        Equal data has an equal hash, wherever it was read from.
        """
        if self.made_from:
            return self.made_from
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for split in (self.train, self.test):
            split.digest(digest)
        return digest.hexdigest()[:16]

    def with_validation(self, count: int) -> "Dataset":
        """Move `count` training images to validation, independently of the run's seed.

        The paper uses 5,000 of CIFAR-10's 50,000 (Section 4.2) and does not say which. Here they
        are as many of each class as its share, so that few images do not leave a class out. Identical
        images and groups stay together, so that it can be some images more or less.

        Raises:
            ResnetlabError: `count` is not below the number of training images, or a validation split exists.
        """
        if not count:
            return self
        if self.validation is not None:
            raise ResnetlabError(f"{self.name} has its own validation images; remove validation={count}")
        if not 0 < count < len(self.train):
            raise ResnetlabError(
                f"cannot set {count} images apart for validation: {self.name} has {len(self.train)} training images"
            )
        one_each = self.train.labels.ndim == 1
        labels = self.train.labels if one_each else torch.zeros(len(self.train), dtype=torch.int64)
        order = permutation(len(self.train), seed=0, epoch=0, device=torch.device("cpu")).tolist()
        sizes = torch.bincount(labels).tolist()
        quota = [min(share, max(0, size - 1)) for share, size in zip(shares(labels, count), sizes, strict=True)]
        held = torch.tensor(hold_out(order, labels.tolist(), self.train.units, quota))
        if not held.any():
            raise ResnetlabError(
                f"cannot set {count} images apart for validation: each class of {self.name} needs its images for "
                "training; leave validation out"
            )
        if gone := set(labels.tolist()) - set(labels[~held].tolist()):
            raise ResnetlabError(
                f"cannot set {count} images apart for validation: no other images of {self.classes[min(gone)]} would "
                f"be left in {self.name} for training; identical images and groups stay together"
            )
        held_out, kept = held.nonzero().flatten(), (~held).nonzero().flatten()
        return replace(self, train=self.train[kept], validation=self.train[held_out])

    def with_training(self, images: int = 0, label_noise: float = 0.0) -> "Dataset":
        """Keep `images` training images (0: all), and replace a share of their labels by random other classes.

        Independent of the run's seed; the images kept for a smaller number are among those for a larger one.

        Raises:
            ResnetlabError: more images than there are, or noise in labels that are not one class per image.
        """
        train = self.train
        if not 0 <= images <= len(train):
            raise ResnetlabError(f"images={images}: {self.name} has {len(train):,} training images")
        cpu = torch.device("cpu")
        if images:
            train = train[permutation(len(train), seed=1, epoch=0, device=cpu)[:images].sort().values]
        if label_noise:
            if train.labels.ndim != 1 or len(self.classes) < 2:
                raise ResnetlabError(f"label_noise={label_noise:g} needs one of several classes per image")
            count = len(train)
            noisy = permutation(count, seed=2, epoch=0, device=cpu)[: round(label_noise * count)]
            shift = 1 + permutation(count, seed=3, epoch=0, device=cpu)[: len(noisy)] % (len(self.classes) - 1)
            labels = train.labels.clone()
            labels[noisy] = (labels[noisy] + shift) % len(self.classes)
            train = replace(train, labels=labels)
        return self if train is self.train else replace(self, train=train)

    def as_files(self) -> "Dataset":
        """The images in memory as `Files`, so that they are scaled and cropped on demand."""

        def as_files(name: str, split: Split) -> Files:
            if isinstance(split, Files):
                return split
            shown = enumerate(split.pixels.numpy())
            files = (File(f"{name} {k}", f"{self.name}, {name} {k}", pixels=pixels) for k, pixels in shown)
            return Files(tuple(files), split.labels)

        found = self.with_splits({name: as_files(name, split) for name, split in self.splits.items()})
        return replace(found, made_from=self.fingerprint())

    def with_splits(self, splits: Mapping[str, Split]) -> "Dataset":
        """A copy with other splits, e.g. in another storage."""
        return replace(self, train=splits["train"], test=splits["test"], validation=splits.get("validation"))


def _boxes(split: Split) -> int:
    return len(split.boxes.classes) if isinstance(split, Files) and split.boxes is not None else 0


Arrays = tuple[np.ndarray, np.ndarray]


def pixel_dataset(name: str, train: Arrays, test: Arrays, classes: Sequence[str], note: str = "") -> Dataset:
    """Check arrays of pixels (n, h, w[, c]) and labels (n), and make a data set of them.

    Raises:
        ResnetlabError: wrong types or shapes, image sizes that differ between the splits, labels out of range.
    """
    checked = [
        pixel_split(f"{name}, {split}", *arrays, classes) for split, arrays in (("train", train), ("test", test))
    ]
    shapes = [tuple(split.pixels.shape[1:]) for split in checked]
    if shapes[0] != shapes[1]:
        raise ResnetlabError(
            f"{name}: training images have shape {shapes[0]}, test images {shapes[1]}; make them equal"
        )
    return Dataset(name, tuple(classes), checked[0], checked[1], note=note)


def pixel_split(where: str, pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Pixels:
    """Check arrays and make a split of them; `where` names it in error messages.

    Raises:
        ResnetlabError: wrong types or shapes, or labels out of range.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise ResnetlabError(
            f"{where}: images are {pixels.dtype} of shape {pixels.shape}; "
            "expected uint8 of shape (images, height, width) or (images, height, width, 1 or 3 channels)"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != pixels.shape[:1]:
        raise ResnetlabError(
            f"{where}: labels are {labels.dtype} of shape {labels.shape}; "
            f"expected integers of shape ({len(pixels)},), one per image"
        )
    if not len(labels):
        raise ResnetlabError(f"{where}: there are no images")
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        first = int(wrong.argmax())
        raise ResnetlabError(
            f"{where}: label {labels[first]} of image {first} is out of range; "
            f"there are {len(classes)} classes, so labels are 0 to {len(classes) - 1}"
        )
    return Pixels(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels.astype(np.int64)))


def same_content(files: Iterable[File]) -> dict[File, bytes]:
    """A key per file that is equal for equal content. Of files of equal size the first bytes are read, then the rest.

    Unreadable files are equal to no other.
    """
    found = {file: _key(file, lambda file: file.bytes.to_bytes(8)) for file in files}
    for limit in (HEAD, None):
        count = Counter(found.values())
        for file, key in found.items():
            if count[key] > 1:
                found[file] = _key(file, lambda file: hashlib.blake2b(file.read(limit), digest_size=16).digest())  # noqa: B023
    return found


def _key(file: File, of: Callable[[File], bytes]) -> bytes:
    try:
        return of(file)
    except ResnetlabError:
        return repr(file).encode(errors="surrogateescape")
