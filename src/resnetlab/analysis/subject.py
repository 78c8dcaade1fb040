"""What a measurement is made on: a network, and preprocessed images of its training and test splits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from resnetlab.data.preprocessing import Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.networks.resnet import ResNet
from resnetlab.tasks.classification import CLASSIFICATION

AT_A_TIME = {"cpu": 250, "cuda": 2500, "mps": 250}  # images of 32x32 pixels
PIXELS = 32 * 32
Batch = tuple[Float[Tensor, "n c h w"], Int64[Tensor, "n"]]
Snapshots = Callable[[], Iterator[tuple[int, nn.Module]]]
"""The numbers of finished training steps, and the network after each."""
Watch = Callable[[Sequence[Any]], Iterable[Any]]
"""Shows the progress through a sequence."""


@dataclass(frozen=True)
class Images:
    """Fitted images and their classes; batches are preprocessed on the device, without augmentation."""

    pixels: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, "n"]
    preprocessing: Preprocessing
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """All images in order, in batches that fit in memory or of `size` images."""
        height, width = self.pixels.shape[1:3]
        size = size or max(1, AT_A_TIME[self.device.type] * PIXELS // max(height * width, PIXELS))
        preprocess = self.preprocessing.to(self.device)
        for k in range(0, len(self), size):
            pixels, labels = self.pixels[k : k + size], self.labels[k : k + size]
            yield preprocess(pixels.to(self.device)), labels.to(self.device)

    def first(self, count: int) -> "Images":
        """The first images; they are in random order."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def batch(self, count: int) -> Batch:
        """The first images, as one batch."""
        return next(self.first(count).batches(count))


@dataclass(frozen=True)
class Subject:
    """A trained network on its device, in evaluation mode, and some of the images to measure it on.

    `trained_on` is the number of all training images.

    `initial` is the network before training, None if that started from given weights; `snapshots` repeats the
    training and yields the network on the way.
    """

    name: str
    network: ResNet
    train: Images
    test: Images
    trained_on: int
    initial: ResNet | None
    snapshots: Snapshots

    def need(self, images: int, what: str, *splits: Literal["training", "test"]) -> None:
        """Check that these splits have enough images for a stable estimate.

        Raises:
            ResnetlabError: the numbers of images found and needed.
        """
        for split, found in (("training", self.train), ("test", self.test)):
            if split in splits and len(found) < images:
                raise ResnetlabError(
                    f"{self.name} has {len(found)} {split} images for this; {what} needs at least {images} for a "
                    "stable estimate"
                )


def error_and_loss(network: nn.Module, images: Images) -> tuple[float, float]:
    """Error in percent and mean cross-entropy of a network in evaluation mode; its modes are restored."""
    metrics = CLASSIFICATION.test(network, images.batches()).metrics
    return metrics["error"], metrics["loss"]


def error(network: nn.Module, images: Images) -> float:
    """Error in percent; see `error_and_loss`."""
    return error_and_loss(network, images)[0]
