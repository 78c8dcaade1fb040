"""A data set that is resident in memory: 8-bit pixels, labels, class names."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from resnetlab.data.counter import permutation
from resnetlab.errors import ResnetlabError


@dataclass(frozen=True)
class Images:
    """Images of one size and their labels; pixels are 0 to 255, RGB or grey, height before width."""

    pixels: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Images":
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> "Images":
        """The same images on a device, where they stay."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageSet:
    """A data set with its official (or stated) split. `note` says how the split was made, where it is ours."""

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    validation: Images | None = None
    note: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        height, width, channels = self.train.pixels.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """Hash of every pixel, label and class name: equal for equal data, wherever it was read from."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for images in (self.train, self.test):
            digest.update(repr(tuple(images.pixels.shape)).encode())
            digest.update(images.pixels.numpy().tobytes())
            digest.update(images.labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    def with_validation(self, count: int) -> "ImageSet":
        """`count` training images set apart for validation, the same ones whatever the run's seed.

        The paper's is 5,000 of CIFAR-10's 50,000 (Section 4.2); which ones it does not say.

        Raises:
            ResnetlabError: as many or more are asked for than there are training images, or it has validation images.
        """
        if not count:
            return self
        if self.validation is not None:
            raise ResnetlabError(f"{self.name} has validation images of its own; leave validation={count} out")
        if not 0 < count < len(self.train):
            raise ResnetlabError(
                f"cannot set {count} images apart for validation: {self.name} has {len(self.train)} training images"
            )
        order = permutation(len(self.train), seed=0, epoch=0, device=torch.device("cpu"))
        held_out, kept = order[:count].sort().values, order[count:].sort().values
        return replace(self, train=self.train[kept], validation=self.train[held_out])


def image_set(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
    note: str = "",
) -> ImageSet:
    """A checked data set from arrays of pixels (n, h, w[, c]) and labels (n).

    Raises:
        ResnetlabError: wrong types or shapes, different sizes of image in the two splits, labels out of range.
    """
    parts = [_images(f"{name}, {split}", *arrays, classes) for split, arrays in (("train", train), ("test", test))]
    shapes = [tuple(part.pixels.shape[1:]) for part in parts]
    if shapes[0] != shapes[1]:
        raise ResnetlabError(
            f"{name}: training images have shape {shapes[0]}, test images {shapes[1]}; make them equal"
        )
    return ImageSet(name, parts[0], parts[1], classes, note=note)


def _images(where: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Images:
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
            f"expected whole numbers of shape ({len(pixels)},), one for each image"
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
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels.astype(np.int64)))
